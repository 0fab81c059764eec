"""Trust domains over real mutual TLS: TLS takes every root of ours, and the broker each for its own names only."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from broker.model.errors import Reason, Refusal
from broker.sandbox.authority import write_svid
from broker.sandbox.broker import prepare, running
from broker.sandbox.certificates import Svid
from broker.sdk.connect.refusals import refusal_from
from broker.system import system_clock
from broker.v1 import verifier_service_pb2 as pb
from broker.v1 import verifier_service_pb2_grpc as pb_grpc
from tests.support.certificates import Made, Shape, ca_shape, make, root
from tests.support.doors import Doors

THIEF = "spiffe://other.example/thief"
KEYS, WATCH = "VerifierService.GetKeySet", "VerifierService.WatchRevocations"
_IDENTITY = 'svid_dir = "svids/broker"\nbundles = {{ "other.example" = "other.pem" }}\ndenied = ["{thief}", "{serial}"]'
_RULES = """
[[identity.rule]]
match = "spiffe://other.example/*"
tenant = "other"
groups = ["verifiers"]
"""


@dataclass
class Federation:
    """A broker that trusts a second trust domain, and that one's root."""

    doors: Doors
    directory: Path
    root: Made
    denied_serial: Made

    def admit(self, name: str, leaf: Made, *chain: Made) -> str:
        """Make a folder to call with, whatever the certificate."""
        svid = Svid(leaf.pem + b"".join(link.pem for link in chain), leaf.key_pem)
        write_svid(self.doors.broker.svids / name, svid, (self.doors.broker.svids / "ca.pem").read_bytes())
        return name


def other(issuer: Made, uri: str = "spiffe://other.example/tool", after: timedelta = timedelta(hours=1)) -> Made:
    return make(Shape(uris=(uri,), after=after), system_clock(), issuer)


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    directory = tmp_path_factory.mktemp("federation")
    deployment = prepare(directory)
    theirs = root("other", system_clock())
    stolen = other(theirs)
    (directory / "other.pem").write_bytes(theirs.pem)
    identity = _IDENTITY.format(thief=THIEF, serial=f"{stolen.certificate.serial_number:X}")
    text = deployment.configuration.read_text().replace('svid_dir = "svids/broker"', identity)
    deployment.configuration.write_text(text + _RULES)
    with running(directory) as broker, ExitStack() as stack:
        yield Federation(Doors(broker, stack), directory, theirs, stolen)


def eventually(answer: Callable[[], object], wanted: object, seconds: float = 60) -> None:
    """Ask until the answer is the one wanted."""
    end = time.monotonic() + seconds
    while (found := answer()) != wanted:
        assert time.monotonic() < end, found
        time.sleep(0.1)


def outcome(doors: Doors, name: str) -> Reason | None:
    """Call as somebody; return the reason of the refusal, or None."""
    try:
        doors.call(name, KEYS)
    except Refusal as refusal:
        return refusal.reason
    return None


def test_a_federated_workload_may_call(federation: Federation) -> None:
    name = federation.admit("tool", other(federation.root))
    assert federation.doors.call(name, KEYS).issuer == "https://broker.example.org"


def test_a_workload_behind_an_intermediate_may_call(federation: Federation) -> None:
    link = make(ca_shape("intermediate"), system_clock(), federation.root)
    assert federation.doors.call(federation.admit("behind", other(link), link), KEYS).jwks


@pytest.mark.parametrize("path", ["operator", "operator/root", "tool-server/repo", "agent/researcher"])
def test_a_federated_root_may_not_sign_in_the_name_of_our_trust_domain(federation: Federation, path: str) -> None:
    name = federation.admit("forged-" + path.replace("/", "-"), other(federation.root, f"spiffe://example.org/{path}"))
    for rpc in (KEYS, WATCH, "OperatorService.ListLeases", "AgentService.IssueCredential"):
        assert federation.doors.refused(name, rpc).reason is Reason.IDENTITY_INVALID


@pytest.mark.parametrize(
    "uris",
    [(), ("spiffe://other.example/tool", "spiffe://example.org/operator"), ("spiffe://other.example",)],
    ids=["no name", "two names", "the trust domain's own name"],
)
def test_a_certificate_that_tls_accepts_and_that_is_no_svid_is_refused(
    federation: Federation, uris: tuple[str, ...]
) -> None:
    leaf = make(Shape(uris=uris, dns=("tool.other.example",)), system_clock(), federation.root)
    assert outcome(federation.doors, federation.admit(f"odd-{len(uris)}{''.join(uris)[-4:]}", leaf)) is (
        Reason.IDENTITY_INVALID
    )


def test_who_is_denied_is_refused_by_id_and_by_serial(federation: Federation) -> None:
    doors = federation.doors
    assert outcome(doors, federation.admit("thief", other(federation.root, THIEF))) is Reason.IDENTITY_INVALID
    assert outcome(doors, federation.admit("stolen", federation.denied_serial)) is Reason.IDENTITY_INVALID
    assert outcome(doors, federation.admit("replaced", other(federation.root))) is None


def test_a_connection_does_not_outlive_its_certificate(federation: Federation) -> None:
    doors = federation.doors
    name = federation.admit("brief", other(federation.root, after=timedelta(seconds=4)))
    stub = pb_grpc.VerifierServiceStub(doors.channel(name))
    stream = stub.WatchRevocations(pb.WatchRevocationsRequest(), timeout=60)
    assert next(stream).session_id
    assert outcome(doors, name) is None
    with pytest.raises(grpc.RpcError) as error:
        list(stream)
    assert refusal_from(error.value).reason is Reason.IDENTITY_EXPIRED
    assert outcome(doors, name) is Reason.IDENTITY_EXPIRED


def test_a_removed_root_counts_on_connections_that_are_open(federation: Federation) -> None:
    doors, bundle = federation.doors, federation.directory / "other.pem"
    name = federation.admit("open", other(federation.root))
    assert outcome(doors, name) is None
    bundle.write_bytes(root("another", system_clock()).pem)
    eventually(lambda: outcome(doors, name), Reason.IDENTITY_INVALID)
    assert outcome(doors, "verifier") is None
    bundle.write_bytes(b"half a bundle")
    time.sleep(1.5)
    assert outcome(doors, name) is Reason.IDENTITY_INVALID
    bundle.write_bytes(federation.root.pem)
    eventually(lambda: outcome(doors, name), None)


def test_the_brokers_own_certificate_rotates_without_a_restart(federation: Federation) -> None:
    doors = federation.doors
    key = load_pem_private_key((doors.broker.svids / "ca-key.pem").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    issuer = Made(x509.load_pem_x509_certificate((doors.broker.svids / "ca.pem").read_bytes()), key)
    fresh = make(Shape(uris=("spiffe://example.org/broker",), dns=("localhost",)), system_clock(), issuer)
    federation.admit("broker", fresh)

    host, _, port = doors.broker.address.rpartition(":")
    eventually(lambda: ssl.get_server_certificate((host, int(port))).encode(), fresh.pem)
    assert outcome(doors, "verifier") is None
    assert outcome(doors, federation.admit("later", other(federation.root))) is None
