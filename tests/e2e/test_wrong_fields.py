"""Law 7, where callers err: a secret in any field that they write is neither in the database nor in the log."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from broker.model.errors import Refusal
from broker.model.names import is_tool
from broker.v1 import agent_service_pb2 as agent_pb
from broker.v1 import auditor_service_pb2 as auditor_pb
from broker.v1 import grant_pb2, selector_pb2, task_pb2
from broker.v1 import operator_service_pb2 as operator_pb
from broker.v1 import orchestrator_service_pb2 as orchestrator_pb
from tests.support.facade import JOB, NOTES, RESEARCHER, Facade

PASSWORD = "correct horse,battery%staple"
KEY = "sk_live_51H8xQ2eZvKYlo2C0000000000000000000000000000000000000000000"
WORD = "hunter2-hunter2"


@pytest.fixture(scope="module")
def task_id(facade: Facade) -> str:
    return facade.begin(JOB, RESEARCHER)


@pytest.fixture(scope="module")
def token(facade: Facade, task_id: str) -> str:
    """A credential of this broker."""
    return str(facade.token(client_assertion=facade.workload(), task=task_id).json()["access_token"])


def kept(folder: Path) -> bytes:
    """All that the broker has written down, its keys aside."""
    return b"".join(file.read_bytes() for file in (*folder.glob("broker.db*"), folder / "broker.log"))


def check_nowhere(folder: Path, secret: str) -> None:
    found = kept(folder)
    assert secret.encode() not in found
    assert secret.encode()[:48] not in found, "nor the beginning of it"


def selector(**target: Any) -> selector_pb2.Selector:
    return selector_pb2.Selector(tenant="acme", **target)


def everywhere(secret: str, task_id: str) -> Iterator[tuple[str, str, Message]]:
    """Calls as somebody that leave a secret in each field of a request that would change something."""
    yield from for_agents(secret, task_id)
    yield from for_orchestrators(secret)
    for target in ({"agent": secret}, {"tool": secret}, {"tool": f"{NOTES}#{secret} "}, {"lease_id": f"{secret}."}):
        revoke = operator_pb.RevokeLeasesRequest(selector=selector(**target), reason="x")
        yield "operator", "OperatorService.RevokeLeases", revoke
        yield (
            "operator",
            "OperatorService.CreateLock",
            operator_pb.CreateLockRequest(selector=revoke.selector, reason="x"),
        )
    yield "operator", "OperatorService.DeleteLock", operator_pb.DeleteLockRequest(lock_id=secret)


def for_agents(secret: str, task_id: str) -> Iterator[tuple[str, str, Message]]:
    grants = [grant_pb2.Grant(tool="search_notes")]
    issue = "AgentService.IssueCredential"
    yield "researcher", issue, agent_pb.IssueCredentialRequest(task_id=secret, resource=NOTES, grants=grants)
    yield "researcher", issue, agent_pb.IssueCredentialRequest(task_id=task_id, resource=secret, grants=grants)
    resource = f"{NOTES}?key={secret}"
    yield "researcher", issue, agent_pb.IssueCredentialRequest(task_id=task_id, resource=resource, grants=grants)
    if not is_tool(secret):
        tool = [grant_pb2.Grant(tool=secret)]
        yield "researcher", issue, agent_pb.IssueCredentialRequest(task_id=task_id, resource=NOTES, grants=tool)
    yield (
        "researcher",
        issue,
        agent_pb.IssueCredentialRequest(task_id=task_id, resource=NOTES, grants=grants, request_id=secret),
    )
    yield (
        "researcher",
        issue,
        agent_pb.IssueCredentialRequest(task_id=task_id, resource=NOTES, grants=grants * 2, request_id=secret),
    )
    renew, release = agent_pb.RenewCredentialRequest, agent_pb.ReleaseCredentialRequest
    yield "researcher", "AgentService.RenewCredential", renew(lease_id=secret, request_id=secret)
    yield "researcher", "AgentService.ReleaseCredential", release(lease_id=secret)


def for_orchestrators(secret: str) -> Iterator[tuple[str, str, Message]]:
    grants = [grant_pb2.Grant(tool="search_notes")]
    create = orchestrator_pb.CreateTaskRequest
    yield "orchestrator", "OrchestratorService.CreateTask", create(owner="x", purpose=secret, environment=secret)
    agents = create(owner="x", purpose="x", environment="dev", agents=[secret], request_id=secret)
    yield "orchestrator", "OrchestratorService.CreateTask", agents
    tools = [grant_pb2.ResourceGrants(resource=secret, grants=grants)]
    declared = create(owner="x", purpose="x", environment="dev", agents=[RESEARCHER], tools=tools)
    yield "orchestrator", "OrchestratorService.CreateTask", declared
    yield "orchestrator", "OrchestratorService.ExtendTask", orchestrator_pb.ExtendTaskRequest(task_id=secret)
    end = orchestrator_pb.EndTaskRequest(task_id=secret, outcome=task_pb2.TASK_STATE_FAILED)
    yield "orchestrator", "OrchestratorService.EndTask", end


@pytest.mark.parametrize("kind", ["token", "password", "key", "word"])
def test_a_secret_in_the_wrong_field_over_grpc_is_written_down_nowhere(
    facade: Facade, folder: Path, task_id: str, token: str, kind: str
) -> None:
    secret = {"token": token, "password": PASSWORD, "key": KEY, "word": WORD}[kind]
    for who, rpc, request in everywhere(secret, task_id):
        with suppress(Refusal):
            facade.doors.call(who, rpc, request)
    check_nowhere(folder, secret)


def test_a_token_in_the_prose_of_what_is_permitted_is_hidden(facade: Facade, folder: Path, token: str) -> None:
    prose = f"found {token} in a chat"
    request = operator_pb.RevokeLeasesRequest(selector=selector(agent="spiffe://example.org/x"), reason=prose)
    facade.doors.call("operator", "OperatorService.RevokeLeases", request)
    check_nowhere(folder, token)
    assert b"found [hidden] in a chat" in kept(folder)


@pytest.mark.parametrize("name", ["task", "resource", "audience", "scope", "authorization_details", "client_id"])
@pytest.mark.parametrize("known", [True, False], ids=["by a caller", "by nobody"])
def test_a_secret_in_the_wrong_parameter_is_written_down_nowhere(
    facade: Facade, folder: Path, task_id: str, token: str, name: str, known: bool
) -> None:
    for secret in (token, PASSWORD, f"tool:{token}", f"{NOTES}?access_token={token}"):
        form = {"task": task_id, "client_assertion": facade.workload() if known else "", name: secret}
        assert facade.token(**form).status_code >= 400
    check_nowhere(folder, token)
    check_nowhere(folder, PASSWORD)


def test_what_was_named_is_recorded_by_its_form_or_by_length_and_hash(facade: Facade, task_id: str) -> None:
    form = {"client_assertion": facade.workload(), "task": WORD, "resource": NOTES, "scope": f"tool:add_note {WORD}"}
    assert facade.token(**form).status_code == 400
    found = facade.doors.call("auditor", "AuditorService.ListEntries", auditor_pb.ListEntriesRequest(page_size=1_000))
    refused = [json.loads(entry.body) for entry in found.entries if b"request.refused" in entry.body][-1]
    told = {"bytes": len(WORD), "sha256": hashlib.sha256(WORD.encode()).hexdigest()}
    assert refused["asserted"] == {
        "method": "IssueCredential",
        "task": told,
        "resource": NOTES,
        "tools": ["add_note", told],
    }
