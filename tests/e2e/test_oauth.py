"""OAuth over real HTTPS, and gRPC for callers with tokens: the same lifecycle, whichever door it is."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import grpc
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from broker.credential import dpop
from broker.credential.keys import EcSigner
from broker.model.errors import Reason, Refusal
from broker.sdk.connect.refusals import refusal_from
from broker.system import system_clock, uuid7
from broker.v1 import agent_service_pb2 as pb
from broker.v1 import agent_service_pb2_grpc as pb_grpc
from broker.v1 import auditor_service_pb2 as auditor_pb
from broker.v1 import grant_pb2, operator_service_pb2, verifier_service_pb2, verifier_service_pb2_grpc
from tests.support.facade import JOB, NOTES, REPO, RESEARCHER, SAFE, VAULT, Facade, opened
from tests.support.issuer import compact

WIF = "urn:ietf:params:oauth:grant-type:jwt-bearer"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt"


@pytest.fixture(scope="module")
def facade(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Facade]:
    with opened(tmp_path_factory.mktemp("facade")) as found:
        yield found


@pytest.fixture(scope="module")
def task_id(facade: Facade) -> str:
    return facade.begin(JOB, RESEARCHER)


def issue(facade: Facade, token: str, request: pb.IssueCredentialRequest, *metadata: tuple[str, str]) -> Any:
    """Issue over gRPC, as who the token says."""
    with facade.channel() as channel:
        stub = pb_grpc.AgentServiceStub(channel)
        try:
            return stub.IssueCredential(request, metadata=(("authorization", f"Bearer {token}"), *metadata), timeout=60)
        except grpc.RpcError as error:
            raise refusal_from(error) from error


def asking(task_id: str, resource: str = NOTES, tool: str = "search_notes") -> pb.IssueCredentialRequest:
    return pb.IssueCredentialRequest(task_id=task_id, resource=resource, grants=[grant_pb2.Grant(tool=tool)])


def records(facade: Facade, lease_id: str) -> tuple[Any, dict[str, Any]]:
    """Give the lease, and its ledger entry's body, without what differs from one issue to the next."""
    asked = operator_service_pb2.GetLeaseRequest(lease_id=lease_id)
    lease = facade.doors.call("operator", "OperatorService.GetLease", asked)
    found = getattr(lease, "lease", lease)
    entries = facade.doors.call(
        "auditor", "AuditorService.ListEntries", auditor_pb.ListEntriesRequest(start_index=found.index, page_size=1)
    )
    body = json.loads(entries.entries[0].body)
    for name in ("at", "index"):
        body.pop(name, None)
    body["decided"].pop("decision_id")
    for name in ("lease", "expires_at", "max_expires_at"):
        body["effected"].pop(name)
    for name in ("lease_id", "issue_time", "expire_time", "index", "decision_id"):
        found.ClearField(name)
    return found, body


def test_the_metadata_is_that_of_the_issuer(facade: Facade) -> None:
    found = facade.http.get("/.well-known/oauth-authorization-server").json()
    assert found["issuer"] == facade.url
    for name in ("token_endpoint", "jwks_uri", "introspection_endpoint", "revocation_endpoint"):
        assert found[name].startswith(facade.url + "/")
    assert facade.http.get("/authorize").status_code == 400


def test_the_metadata_is_found_under_the_name_of_openid_connect_too(facade: Facade) -> None:
    found = facade.http.get("/.well-known/openid-configuration")
    assert found.json() == facade.http.get("/.well-known/oauth-authorization-server").json()
    assert found.json()["response_types_supported"] == ["code"], "an empty list is taken for none"
    for name in ("authorization_endpoint", "subject_types_supported", "id_token_signing_alg_values_supported"):
        assert found.json()[name]  # Discovery 1.0 section 3: required


def test_pages_of_any_origin_read_what_is_public_and_call_nothing_else(facade: Facade) -> None:
    asked = {"origin": "https://any.example", "access-control-request-method": "GET"}
    asked |= {"access-control-request-headers": "mcp-protocol-version"}
    for path in ("/jwks", "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"):
        read, preflight = facade.http.get(path, headers=asked), facade.http.request("OPTIONS", path, headers=asked)
        assert (read.status_code, preflight.status_code) == (200, 204)
        for answer in (read, preflight):
            assert answer.headers["access-control-allow-origin"] == "*"
            assert "access-control-allow-credentials" not in answer.headers
        assert preflight.headers["access-control-allow-headers"] == "*"
    for path in ("/token", "/introspect", "/revoke", "/authorize"):
        for method in ("OPTIONS", "POST"):
            answer = facade.http.request(method, path, headers=asked)
            assert answer.status_code >= 400
            assert "access-control-allow-origin" not in answer.headers


def test_another_library_verifies_the_token_with_the_published_keys(facade: Facade, task_id: str) -> None:
    answer = facade.token(client_assertion=facade.workload(), task=task_id, scope="tool:search_notes")
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    keys = KeySet.import_key_set(facade.http.get("/jwks").json())
    claims = jwt.decode(answer.json()["access_token"], keys, algorithms=["ES256"]).claims
    assert (claims["iss"], claims["aud"], claims["sub"]) == (facade.url, NOTES, JOB)
    assert answer.json()["authorization_details"] == claims["authorization_details"]


def test_a_token_over_http_and_one_over_grpc_leave_the_same_records(facade: Facade, task_id: str) -> None:
    proof = facade.workload()
    over_http = facade.token(client_assertion=proof, task=task_id, scope="tool:search_notes")
    assert over_http.status_code == 200, over_http.text
    lease_id = json.loads(_payload(over_http.json()["access_token"]))["jti"]
    over_grpc = issue(facade, proof, asking(task_id))
    assert records(facade, lease_id) == records(facade, over_grpc.lease.lease_id)


def test_refusals_leave_the_same_records_too(facade: Facade, task_id: str) -> None:
    proof = facade.workload()
    assert facade.token(client_assertion=proof, task=task_id, scope="tool:add_note").status_code == 400
    with pytest.raises(Refusal):
        issue(facade, proof, asking(task_id, tool="add_note"))
    found = facade.doors.call("auditor", "AuditorService.ListEntries", auditor_pb.ListEntriesRequest(page_size=1_000))
    http, rpc = [json.loads(entry.body) for entry in found.entries if b"request.refused" in entry.body][-2:]
    for body in (http, rpc):
        for name in ("at", "index"):
            body.pop(name, None)
        body["decided"].pop("decisionId")
    assert http == rpc


@pytest.mark.parametrize(
    "form",
    [
        {"client_assertion": "oidc"},
        {
            "client_assertion": "svid",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe",
        },
        {"grant_type": WIF, "assertion": "oidc", "client_assertion_type": ""},
        {
            "grant_type": EXCHANGE,
            "subject_token": "svid",
            "subject_token_type": JWT_TYPE,
            "client_assertion_type": "",
            "resource": "",
            "audience": NOTES,
        },
    ],
)
def test_each_grant_gives_a_token(form: dict[str, str], facade: Facade, task_id: str) -> None:
    proofs = {"oidc": facade.workload(), "svid": facade.jwt_svid()}
    answer = facade.token(**{name: proofs.get(value, value) for name, value in form.items()}, task=task_id)
    assert answer.status_code == 200, answer.text
    assert answer.json()["scope"] == "tool:search_notes"  # what the task declares, as far as policy permits it
    assert ("issued_token_type" in answer.json()) == (form.get("grant_type") == EXCHANGE)


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"grant_type": ""}, 400, "unsupported_grant_type"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"grant_type": "authorization_code"}, 400, "unsupported_grant_type"),
        ({"client_assertion": ""}, 401, "invalid_client"),
        ({"client_assertion": "x.y.z"}, 401, "invalid_client"),
        ({"client_assertion_type": "x"}, 400, "invalid_request"),
        ({"client_secret": "x"}, 401, "invalid_client"),
        ({"client_id": "somebody"}, 401, "invalid_client"),
        ({"resource": ""}, 400, "invalid_target"),
        ({"resource": "notes"}, 400, "invalid_target"),
        ({"resource": NOTES + "#x"}, 400, "invalid_target"),
        ({"audience": REPO}, 400, "invalid_target"),
        ({"resource": "https://unknown.example"}, 400, "invalid_scope"),
        ({"scope": "search_notes"}, 400, "invalid_scope"),
        ({"scope": "tool:search_notes tool:search_notes"}, 400, "invalid_scope"),
        ({"scope": "tool:add_note"}, 400, "invalid_scope"),
        ({"scope": "tool:nothing"}, 400, "invalid_scope"),
        ({"authorization_details": "{}"}, 400, "invalid_authorization_details"),
        ({"authorization_details": "[1]"}, 400, "invalid_authorization_details"),
        ({"authorization_details": '[{"type":"payment"}]'}, 400, "invalid_authorization_details"),
        ({"task": "none"}, 400, "invalid_grant"),
        ({"task": "a b"}, 400, "invalid_request"),
        ({"grant_type": WIF, "client_assertion": "", "assertion": "x"}, 400, "invalid_grant"),
        ({"grant_type": WIF, "client_assertion": ""}, 400, "invalid_request"),
        ({"grant_type": EXCHANGE, "subject_token": "x", "subject_token_type": "x"}, 400, "invalid_request"),
    ],
)
def test_errors_are_those_of_the_rfcs(
    form: dict[str, str], status: int, error: str, facade: Facade, task_id: str
) -> None:
    asked = {"client_assertion": facade.workload(), "task": task_id} | form
    answer = facade.token(**asked)
    assert (answer.status_code, answer.json()["error"]) == (status, error), answer.text
    assert asked["client_assertion"] == "" or asked["client_assertion"] not in answer.text


def test_a_form_that_could_be_read_in_two_ways_is_refused(facade: Facade) -> None:
    sent = {"content": b"grant_type=a&grant_type=b", "headers": {"content-type": "application/x-www-form-urlencoded"}}
    assert facade.http.post("/token", **sent).json()["error"] == "unsupported_grant_type"  # type: ignore[arg-type]
    assert facade.http.post("/token", json={"grant_type": "client_credentials"}).json()["error"] == "invalid_request"
    large = facade.http.post("/token", data={"x": "y" * 70_000})
    assert large.json()["error"] == "invalid_request"


def test_constraints_come_with_the_details(facade: Facade, task_id: str) -> None:
    detail = {"type": "tool_call", "actions": ["search_notes"], "constraints": [{"path": "/q", "op": "absent"}]}
    answer = facade.token(
        client_assertion=facade.workload(), task=task_id, authorization_details=json.dumps([detail])
    ).json()
    paths = [constraint["path"] for constraint in answer["authorization_details"][0]["constraints"]]
    assert paths == ["/limit", "/q"]


def test_the_task_is_the_claims_or_the_only_one_or_must_be_named(facade: Facade) -> None:
    who = {"sub": "job:tasks"}
    none = facade.token(client_assertion=facade.workload(**who))
    assert (none.json()["error"], none.json()["reason"]) == ("invalid_grant", "TASK_NOT_FOUND")
    first = facade.begin("oidc:ci:job:tasks")
    assert facade.token(client_assertion=facade.workload(**who)).status_code == 200
    facade.begin("oidc:ci:job:tasks", lifetime=timedelta(minutes=5))
    several = facade.token(client_assertion=facade.workload(**who))
    assert (several.json()["error"], several.json()["reason"]) == ("invalid_request", "TASK_AMBIGUOUS")
    assert facade.token(client_assertion=facade.workload(**who, task=first)).status_code == 200
    other = facade.token(client_assertion=facade.workload(**who, task="other"), task=first)
    assert other.json()["reason"] == "TASK_NOT_FOUND"


def test_introspection_tells_a_resource_of_its_own_tokens_alone(facade: Facade, task_id: str) -> None:
    token = facade.token(client_assertion=facade.workload(), task=task_id).json()["access_token"]
    gateway = {"authorization": f"Bearer {facade.workload(sub='gateway')}"}
    found = facade.http.post("/introspect", data={"token": token}, headers=gateway).json()
    assert (found["active"], found["aud"], found["sub"]) == (True, NOTES, JOB)
    with facade.channel() as channel:
        stub = verifier_service_pb2_grpc.VerifierServiceStub(channel)
        request = verifier_service_pb2.IntrospectCredentialRequest(token=token)
        assert stub.IntrospectCredential(request, metadata=tuple(gateway.items()), timeout=60).active
    repo = facade.doors.call("verifier", "VerifierService.IntrospectCredential", request)
    assert not repo.active, "it is for another resource"
    for nobody in ({}, {"authorization": "Basic eDp5"}):
        assert facade.http.post("/introspect", data={"token": token}, headers=nobody).status_code == 401
    agent = {"authorization": f"Bearer {facade.workload()}"}
    other = facade.http.post("/introspect", data={"token": token}, headers=agent)
    assert other.json()["error"] == "unauthorized_client"
    assert facade.http.post("/introspect", data={"token": "x"}, headers=gateway).json() == {"active": False}


def test_whoever_has_a_token_may_end_it(facade: Facade, task_id: str) -> None:
    token = facade.token(client_assertion=facade.workload(), task=task_id).json()["access_token"]
    gateway = {"authorization": f"Bearer {facade.workload(sub='gateway')}"}
    for copied in (f"Authorization: Bearer {token[:100]}\r\n  {token[100:]}\n", token):
        assert facade.http.post("/revoke", data={"token": copied}).status_code == 200
        assert facade.http.post("/introspect", data={"token": token}, headers=gateway).json() == {"active": False}
    assert facade.http.post("/revoke", data={"token": "x"}).status_code == 200
    assert facade.http.post("/revoke", data={"token": token[:-9]}).json()["error"] == "invalid_request"
    assert facade.http.post("/revoke", data={}).json()["error"] == "invalid_request"


def test_a_key_that_is_rolled_in_mid_flight_is_found(facade: Facade, task_id: str) -> None:
    before = facade.workload()
    facade.issuer.roll("rolled")
    assert facade.token(client_assertion=facade.workload(), task=task_id).status_code == 200
    assert facade.token(client_assertion=before, task=task_id).status_code == 200


# Holders.


def made_for(facade: Facade, key: EcSigner, path: str, jti: str = "") -> str:
    request = dpop.Request(method="POST", url=facade.url + path)
    return dpop.make(key, request, jti=jti or uuid7(), at=system_clock())


def test_a_resource_that_binds_to_keys_gives_no_token_without_a_proof(facade: Facade, task_id: str) -> None:
    key = EcSigner.generate()
    asked = {"client_assertion": facade.workload(), "task": task_id, "resource": VAULT}
    assert facade.token(**asked).json()["error"] == "invalid_dpop_proof"
    proof = {"dpop": made_for(facade, key, "/token")}
    answer = facade.token(proof, **asked).json()
    assert answer["token_type"] == "DPoP"
    assert json.loads(_payload(answer["access_token"]))["cnf"] == {"jkt": key.kid}
    again = facade.token(proof, **asked).json()
    assert (again["error"], again["reason"]) == ("invalid_dpop_proof", "PROOF_INVALID")
    for wrong in (made_for(facade, key, "/revoke"), "x", proof["dpop"] + "x"):
        assert facade.token({"dpop": wrong}, **asked).json()["error"] == "invalid_dpop_proof"


def test_a_proof_over_grpc_binds_as_well(facade: Facade, task_id: str) -> None:
    key = EcSigner.generate()
    proof = made_for(facade, key, "/broker.v1.AgentService/IssueCredential")
    answer = issue(facade, facade.workload(), asking(task_id, VAULT), ("dpop", proof))
    assert (answer.lease.confirmation, answer.lease.binding) == (key.kid, 3)
    with pytest.raises(Refusal) as refusal:
        issue(facade, facade.workload(), asking(task_id, VAULT), ("dpop", proof))
    assert refusal.value.reason is Reason.PROOF_INVALID


def bound_to(key: EcSigner) -> dict[str, Any]:
    return {"cnf": {"jkt": key.kid}}


def test_a_token_of_the_callers_that_is_bound_to_a_key_is_good_with_a_proof_of_it_alone(
    facade: Facade, task_id: str
) -> None:
    key, other = EcSigner.generate(), EcSigner.generate()
    for token in (facade.workload(**bound_to(key)), facade.jwt_svid(**bound_to(key))):
        for grant in (
            {"client_assertion": token},
            {"grant_type": WIF, "assertion": token, "client_assertion_type": ""},
            {
                "grant_type": EXCHANGE,
                "subject_token": token,
                "subject_token_type": JWT_TYPE,
                "client_assertion_type": "",
            },
        ):
            for proof in (None, made_for(facade, other, "/token"), made_for(facade, key, "/introspect")):
                refused = facade.token({"dpop": proof} if proof else {}, **grant, task=task_id)
                assert (refused.status_code, refused.json()["reason"]) == (400, "PROOF_INVALID")
            answer = facade.token({"dpop": made_for(facade, key, "/token")}, **grant, task=task_id)
            assert answer.status_code == 200, answer.text
            assert answer.json()["token_type"] == "DPoP"


def test_over_grpc_a_bound_token_is_good_with_a_proof_of_its_key_alone(facade: Facade, task_id: str) -> None:
    key, other, path = EcSigner.generate(), EcSigner.generate(), "/broker.v1.AgentService/IssueCredential"
    token = facade.workload(**bound_to(key))
    for proof in (None, made_for(facade, other, path), made_for(facade, key, "/token")):
        with pytest.raises(Refusal) as refusal:
            issue(facade, token, asking(task_id), *([("dpop", proof)] if proof else []))
        assert refusal.value.reason is Reason.PROOF_INVALID
    assert issue(facade, token, asking(task_id), ("dpop", made_for(facade, key, path))).lease.confirmation == key.kid


def test_who_looks_tokens_up_must_have_the_key_of_its_own_token_too(facade: Facade, task_id: str) -> None:
    key = EcSigner.generate()
    token = facade.token(client_assertion=facade.workload(), task=task_id).json()["access_token"]
    gateway = facade.workload(sub="gateway", **bound_to(key))
    headers = {"authorization": f"Bearer {gateway}"}
    assert facade.http.post("/introspect", data={"token": token}, headers=headers).json()["reason"] == "PROOF_INVALID"
    headers["dpop"] = made_for(facade, key, "/introspect")
    assert facade.http.post("/introspect", data={"token": token}, headers=headers).json()["active"]
    request = verifier_service_pb2.IntrospectCredentialRequest(token=token)
    with facade.channel() as channel:
        call = verifier_service_pb2_grpc.VerifierServiceStub(channel).IntrospectCredential
        bearing = ("authorization", f"Bearer {gateway}")
        with pytest.raises(grpc.RpcError) as error:
            call(request, metadata=(bearing,), timeout=60)
        assert refusal_from(error.value).reason is Reason.PROOF_INVALID
        proof = made_for(facade, key, "/broker.v1.VerifierService/IntrospectCredential")
        assert call(request, metadata=(bearing, ("dpop", proof)), timeout=60).active


def test_what_is_bound_to_tls_is_not_for_callers_without_it(facade: Facade, task_id: str) -> None:
    for resource, tool in ((REPO, "read_file"), (SAFE, "search_notes")):
        with pytest.raises(Refusal) as refusal:
            issue(facade, facade.workload(), asking(task_id, resource, tool))
        assert refusal.value.reason is Reason.HOLDER_UNPROVEN
    assert issue(facade, facade.jwt_svid(), asking(task_id, REPO, "read_file")).token, "its X.509-SVID is the holder's"
    bound = facade.doors.call("researcher", "AgentService.IssueCredential", asking(task_id, SAFE))
    assert set(json.loads(_payload(bound.token))["cnf"]) == {"x5t#S256"}


# The listener for tokens.


def test_over_grpc_the_same_tokens_are_refused(facade: Facade, task_id: str) -> None:
    forged = compact(facade.svid_key, {"alg": "ES256", "kid": "svid"}, {"sub": "spiffe://other.example/x"})
    year = facade.workload(exp=int(system_clock().timestamp()) + 31_536_000)
    for token in (forged, year, "x", facade.issuer.token("https://other.example")):
        with pytest.raises(Refusal) as refusal:
            issue(facade, token, asking(task_id))
        assert refusal.value.reason is Reason.IDENTITY_INVALID
    with facade.channel() as channel, pytest.raises(grpc.RpcError) as error:
        pb_grpc.AgentServiceStub(channel).IssueCredential(asking(task_id), timeout=60)
    assert refusal_from(error.value).reason is Reason.IDENTITY_MISSING


def test_a_stream_ends_with_the_token_that_opened_it(facade: Facade) -> None:
    token = facade.workload(sub="gateway", exp=int(system_clock().timestamp()) + 2)
    bearing = (("authorization", f"Bearer {token}"),)
    with facade.channel() as channel:
        stub = verifier_service_pb2_grpc.VerifierServiceStub(channel)
        stream = stub.WatchRevocations(verifier_service_pb2.WatchRevocationsRequest(), metadata=bearing, timeout=60)
        with pytest.raises(grpc.RpcError) as error:
            list(stream)
    assert refusal_from(error.value).reason is Reason.IDENTITY_EXPIRED


def _payload(token: str) -> bytes:
    segment = token.split(".")[1]
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
