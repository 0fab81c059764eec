"""OAuth over real HTTPS, and gRPC for callers with tokens: the same lifecycle, whichever door it is."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from broker.model.errors import Refusal
from broker.v1 import auditor_service_pb2 as auditor_pb
from broker.v1 import operator_service_pb2, verifier_service_pb2, verifier_service_pb2_grpc
from tests.support.facade import JOB, NOTES, REPO, Facade
from tests.support.oauth import EXCHANGE, JWT_TYPE, WIF, asking, issue, payload


def records(facade: Facade, lease_id: str) -> tuple[Any, dict[str, Any]]:
    """Return the lease, and its ledger entry's body, without what differs from one issue to the next."""
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


def test_a_token_over_http_and_one_over_grpc_leave_the_same_records(facade: Facade, task_id: str) -> None:
    proof = facade.workload()
    over_http = facade.token(client_assertion=proof, task=task_id, scope="tool:search_notes")
    assert over_http.status_code == 200, over_http.text
    lease_id = json.loads(payload(over_http.json()["access_token"]))["jti"]
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
