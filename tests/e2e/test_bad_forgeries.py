"""Who is vouched for by the wrong authority is nobody: each trust domain and each issuer speaks for its own alone.

The broker is federated with `partner.example`, and trusts two issuers whose keys have the same `kid`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from broker.model.errors import Reason
from broker.sandbox.authority import read_authority
from broker.sandbox.certificates import Authority
from broker.sdk.connect.connection import connect_sync
from broker.sdk.connect.refusals import refusal_from
from broker.system import system_clock
from broker.v1 import agent_service_pb2 as pb
from broker.v1 import agent_service_pb2_grpc as pb_grpc
from broker.v1 import grant_pb2
from tests.support.facade import JOB, JWT_BEARER, NOTES, RESEARCHER, Facade, opened
from tests.support.fakes import authority, write_svid
from tests.support.issuer import OidcIssuer, compact, issuing, jwk

PARTNER = "spiffe://partner.example/agent/helper"
PARTNER_ROOT = authority("partner.example")
PARTNER_KEY = ec.generate_private_key(ec.SECP256R1())
WIF = "urn:ietf:params:oauth:grant-type:jwt-bearer"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt"
SPIFFE_JWT = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
_MORE = """
[[identity.issuer]]
name = "cluster"
url = "{url}"
jwks_url = "{url}/jwks"
ca_file = "svids/ca.pem"

[[identity.rule]]
match = "oidc:cluster:*"
tenant = "acme"
groups = ["agents"]

[[identity.rule]]
match = "spiffe://partner.example/*"
tenant = "acme"
groups = ["agents"]

"""


@dataclass
class World:
    """A broker, and who vouches for whom."""

    facade: Facade
    other: OidcIssuer
    task_id: str
    svids: Path

    @property
    def root(self) -> Authority:
        svids = self.facade.broker.svids
        return read_authority(svids)

    def jwt_svid(self, subject: str, key: ec.EllipticCurvePrivateKey, kid: str | None, **changes: object) -> str:
        claims = {"sub": subject, "aud": [self.facade.url], "exp": int(system_clock().timestamp()) + 300, **changes}
        header = {"alg": "ES256", "kid": kid, "typ": "JWT"}
        return compact(key, {name: value for name, value in header.items() if value}, claims)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("forgeries")
    (folder / "partner.pem").write_bytes(PARTNER_ROOT.cert_pem)
    keys = {"keys": [jwk(PARTNER_KEY, kid, use="jwt-svid") for kid in ("partner", "svid")]}
    (folder / "partner.json").write_text(json.dumps(keys))
    with ExitStack() as stack:
        root = authority()
        other = stack.enter_context(issuing(folder / "other", root))
        (folder / "other.pem").write_bytes(root.cert_pem)
        more = _MORE.format(url=other.url).replace("svids/ca.pem", "other.pem")
        bundles = '[identity.bundles]\n"partner.example" = "partner.pem"\n'
        jwt_bundles = '"partner.example" = "partner.json"\n'
        facade = stack.enter_context(opened(folder, bundles + more, jwt_bundles=jwt_bundles))
        task_id = facade.begin(JOB, RESEARCHER, PARTNER, "oidc:cluster:job:7")
        yield World(facade, other, task_id, folder / "forged")


def over_grpc(channel: grpc.Channel, world: World, *metadata: tuple[str, str]) -> Reason | None:
    """Ask for a credential; tell why it is refused, if it is."""
    asked = pb.IssueCredentialRequest(
        task_id=world.task_id, resource=NOTES, grants=[grant_pb2.Grant(tool="search_notes")]
    )
    try:
        pb_grpc.AgentServiceStub(channel).IssueCredential(asked, metadata=metadata, timeout=60)
    except grpc.RpcError as error:
        return refusal_from(error).reason
    return None


def forms(token: str) -> list[dict[str, str]]:
    """Return the forms in which a token can be brought to the token endpoint."""
    return [
        {"client_assertion": token, "client_assertion_type": JWT_BEARER},
        {"client_assertion": token, "client_assertion_type": SPIFFE_JWT},
        {"grant_type": WIF, "assertion": token, "client_assertion_type": ""},
        {"grant_type": EXCHANGE, "subject_token": token, "subject_token_type": JWT_TYPE, "client_assertion_type": ""},
    ]


def told(world: World, token: str) -> set[tuple[int, str, str]]:
    """Bring a token to every door for tokens; give all answers."""
    found = set()
    for form in forms(token):
        answer = world.facade.token(**form, task=world.task_id)
        body = answer.json()
        found.add((answer.status_code, body.get("error", ""), body.get("reason", "")))
        assert token not in answer.text
    with world.facade.channel() as channel:
        reason = over_grpc(channel, world, ("authorization", f"Bearer {token}"))
    return found | {(0, "grpc", "" if reason is None else reason.value)}


REFUSED = {
    (401, "invalid_client", "IDENTITY_INVALID"),
    (400, "invalid_grant", "IDENTITY_INVALID"),
    (0, "grpc", "IDENTITY_INVALID"),
}
GRANTED = {(200, "", ""), (0, "grpc", "")}
KNOWN = {(400, "invalid_scope", "POLICY_DENIED"), (0, "grpc", "POLICY_DENIED")}
"""The identity is taken, and the sample's policy gives it nothing."""


def test_each_speaks_for_its_own(world: World) -> None:
    assert told(world, world.facade.jwt_svid()) == GRANTED
    assert told(world, world.facade.workload()) == GRANTED
    assert told(world, world.jwt_svid(PARTNER, PARTNER_KEY, "partner")) == KNOWN
    assert told(world, world.other.token(world.facade.url)) == KNOWN


@pytest.mark.parametrize("kid", ["svid", "partner", None])
def test_a_federated_domains_key_signs_no_jwt_svid_of_ours(world: World, kid: str | None) -> None:
    assert told(world, world.jwt_svid(RESEARCHER, PARTNER_KEY, kid)) == REFUSED


@pytest.mark.parametrize("kid", ["svid", "partner", None])
@pytest.mark.parametrize("subject", [PARTNER, "spiffe://stranger.example/agent/researcher"])
def test_our_key_signs_no_jwt_svid_of_another_domain(world: World, kid: str | None, subject: str) -> None:
    assert told(world, world.jwt_svid(subject, world.facade.svid_key, kid)) == REFUSED


@pytest.mark.parametrize("kid", ["k1", None])
def test_a_trusted_issuers_key_signs_no_token_of_another_issuer(world: World, kid: str | None) -> None:
    ours, other, url = world.facade.issuer, world.other, world.facade.url
    assert list(ours.keys) == list(other.keys) == ["k1"]
    header = {"kid": kid}
    assert told(world, other.token(url, header, iss=ours.url, project={"path": "acme/web"})) == REFUSED
    assert told(world, ours.token(url, header, iss=other.url)) == REFUSED


def test_an_issuers_name_is_compared_as_it_is(world: World) -> None:
    issuer, url = world.other, world.facade.url
    for alike in (
        issuer.url + "/",
        issuer.url.upper(),
        issuer.url.replace("localhost", "loc\u0430lhost"),
        f" {issuer.url}",
    ):
        assert told(world, issuer.token(url, iss=alike)) == REFUSED
    for odd in ([issuer.url], {"url": issuer.url}, None, 7, True):
        assert told(world, issuer.token(url, iss=odd)) == REFUSED


def test_issuers_and_trust_domains_do_not_speak_for_each_other(world: World) -> None:
    ours, other, url = world.facade.issuer, world.other, world.facade.url
    with_issuer = world.jwt_svid(
        RESEARCHER, world.facade.svid_key, "svid", iss=ours.url, iat=int(system_clock().timestamp())
    )
    assert told(world, with_issuer) == REFUSED
    assert told(world, other.token(url, {"kid": "svid"}, iss=None, sub=RESEARCHER)) == REFUSED
    named_so = told(world, other.token(url, sub=RESEARCHER))
    assert {reason for _, _, reason in named_so} == {"TASK_NOT_FOUND"}, (
        "its principal is the issuer's `oidc:cluster:spiffe://…`, and no workload of ours"
    )


# Certificates.


def test_a_root_vouches_for_its_own_domain_alone(world: World) -> None:
    svids = world.svids
    cases = {
        "theirs": (PARTNER_ROOT, PARTNER, b"", Reason.POLICY_DENIED),
        "ours": (world.root, RESEARCHER, b"", None),
        "ours by theirs": (PARTNER_ROOT, RESEARCHER, b"", Reason.IDENTITY_INVALID),
        "ours by theirs with our root": (PARTNER_ROOT, RESEARCHER, world.root.cert_pem, Reason.IDENTITY_INVALID),
        "theirs by ours": (world.root, PARTNER, b"", Reason.IDENTITY_INVALID),
        "theirs by ours with their root": (world.root, PARTNER, PARTNER_ROOT.cert_pem, Reason.IDENTITY_INVALID),
        "strange by ours": (world.root, "spiffe://stranger.example/x", b"", Reason.IDENTITY_INVALID),
    }
    for name, (root, spiffe_id, chain, wanted) in cases.items():
        folder = write_svid(svids / name, root, spiffe_id)
        (folder / "bundle.pem").write_bytes(world.root.cert_pem)
        with (folder / "svid.pem").open("ab") as file:
            file.write(chain)
        with connect_sync(world.facade.broker.address, folder) as channel:
            assert over_grpc(channel, world) is wanted, name


def test_a_stranger_gets_no_connection(world: World) -> None:
    folder = write_svid(world.svids / "stranger", authority("stranger.example"), RESEARCHER)
    (folder / "bundle.pem").write_bytes(world.root.cert_pem)
    with connect_sync(world.facade.broker.address, folder) as channel:
        assert over_grpc(channel, world) is Reason.UNAVAILABLE


def test_a_token_does_not_make_up_for_a_forged_certificate(world: World) -> None:
    """Where there is a certificate, it alone says who calls."""
    folder = write_svid(world.svids / "forged", PARTNER_ROOT, RESEARCHER)
    (folder / "bundle.pem").write_bytes(world.root.cert_pem)
    good = ("authorization", f"Bearer {world.facade.jwt_svid()}")
    with connect_sync(world.facade.broker.address, folder) as channel:
        assert over_grpc(channel, world, good) is Reason.IDENTITY_INVALID
