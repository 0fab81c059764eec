"""A tenant can neither see nor touch another's tasks, leases, locks or entries."""

from __future__ import annotations

import json

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from broker.model.clock import to_micros
from broker.model.errors import Reason
from broker.system import system_clock
from broker.v1 import agent_service_pb2 as agent_pb
from broker.v1 import auditor_service_pb2 as auditor_pb
from broker.v1 import grant_pb2, lease_pb2, task_pb2
from broker.v1 import operator_service_pb2 as operator_pb
from broker.v1 import orchestrator_service_pb2 as orchestrator_pb
from broker.v1.selector_pb2 import Selector
from tests.support.doors import Doors

REPO = "https://repo.tools.example"
GRANTS = [grant_pb2.Grant(tool="read_file")]
NOBODY = "0198f3c2-7b1e-7c11-9d3a-5b1c2f7d9e40"


@pytest.fixture(scope="module")
def ours(doors: Doors) -> agent_pb.IssueCredentialResponse:
    """A credential of acme's, for a task that names globex' agent as well."""
    declared = orchestrator_pb.CreateTaskRequest(
        owner="alice",
        purpose="triage",
        environment="dev",
        agents=["spiffe://example.org/agent/researcher", "spiffe://example.org/globex/researcher"],
        tools=[grant_pb2.ResourceGrants(resource=REPO, grants=GRANTS)],
        deadline=_in_an_hour(),
        risk_threshold=60,
    )
    task = doors.call("orchestrator", "OrchestratorService.CreateTask", declared)
    asked = agent_pb.IssueCredentialRequest(task_id=task.task_id, resource=REPO, grants=GRANTS)
    answer = doors.call("researcher", "AgentService.IssueCredential", asked)
    assert isinstance(answer, agent_pb.IssueCredentialResponse)
    return answer


def _in_an_hour() -> Timestamp:
    return Timestamp(seconds=to_micros(system_clock()) // 1_000_000 + 3_600)


def test_what_is_of_another_tenant_looks_as_if_it_were_not_there(
    doors: Doors, ours: agent_pb.IssueCredentialResponse
) -> None:
    task_id, lease_id = ours.lease.task_id, ours.lease.lease_id

    def seen(task: str, lease: str) -> list[tuple[Reason, str]]:
        asked = agent_pb.IssueCredentialRequest(task_id=task, resource=REPO, grants=GRANTS)
        end = orchestrator_pb.EndTaskRequest(task_id=task, outcome=task_pb2.TASK_STATE_CANCELLED)
        extend = orchestrator_pb.ExtendTaskRequest(task_id=task, deadline=_in_an_hour())
        calls: list[tuple[str, str, Message]] = [
            ("orchestrator", "OrchestratorService.GetTask", orchestrator_pb.GetTaskRequest(task_id=task)),
            ("orchestrator", "OrchestratorService.EndTask", end),
            ("orchestrator", "OrchestratorService.ExtendTask", extend),
            ("researcher", "AgentService.IssueCredential", asked),
            ("researcher", "AgentService.RenewCredential", agent_pb.RenewCredentialRequest(lease_id=lease)),
            ("researcher", "AgentService.ReleaseCredential", agent_pb.ReleaseCredentialRequest(lease_id=lease)),
            ("operator", "OperatorService.GetLease", operator_pb.GetLeaseRequest(lease_id=lease)),
        ]
        refusals = [doors.refused(f"globex-{who}", rpc, request) for who, rpc, request in calls]
        return [(refusal.reason, refusal.message.replace(task, "ID").replace(lease, "ID")) for refusal in refusals]

    assert seen(task_id, lease_id) == seen(NOBODY, NOBODY)
    asked = operator_pb.GetLeaseRequest(lease_id=lease_id)
    assert doors.call("operator", "OperatorService.GetLease", asked).state == lease_pb2.LEASE_STATE_LIVE


def test_lists_hold_what_is_ones_own(doors: Doors, ours: agent_pb.IssueCredentialResponse) -> None:
    assert doors.call("orchestrator", "OrchestratorService.ListTasks").tasks
    assert not doors.call("globex-orchestrator", "OrchestratorService.ListTasks").tasks
    assert doors.call("operator", "OperatorService.ListLeases").leases
    assert not doors.call("globex-operator", "OperatorService.ListLeases").leases
    listed = doors.call("globex-auditor", "AuditorService.ListEntries", auditor_pb.ListEntriesRequest(page_size=1_000))
    assert {json.loads(entry.body)["tenant"] for entry in listed.entries} <= {"globex"}
    of_task = auditor_pb.ListEntriesRequest(task_id=ours.lease.task_id)
    assert not doors.call("globex-auditor", "AuditorService.ListEntries", of_task).entries
    assert doors.call("auditor", "AuditorService.ListEntries", of_task).entries


@pytest.mark.parametrize("tenant", ["acme", "*"])
def test_an_operator_reaches_no_further_than_its_tenant(
    doors: Doors, ours: agent_pb.IssueCredentialResponse, tenant: str
) -> None:
    selectors = [Selector(tenant=tenant, everything=True), Selector(tenant=tenant, lease_id=ours.lease.lease_id)]
    for selector in selectors:
        for rpc, request in (
            ("RevokeLeases", operator_pb.RevokeLeasesRequest(selector=selector, reason="mine now")),
            ("RevokeLeases", operator_pb.RevokeLeasesRequest(selector=selector, dry_run=True)),
            ("CreateLock", operator_pb.CreateLockRequest(selector=selector, reason="mine now")),
            ("ListLeases", operator_pb.ListLeasesRequest(selector=selector)),
        ):
            refusal = doors.refused("globex-operator", f"OperatorService.{rpc}", request)
            assert refusal.reason is Reason.TENANT_FORBIDDEN


def test_within_its_own_tenant_an_operator_hits_nothing_of_another(
    doors: Doors, ours: agent_pb.IssueCredentialResponse
) -> None:
    """The same ids, under one's own tenant, name nothing."""
    for target in (
        Selector(tenant="globex", everything=True),
        Selector(tenant="globex", lease_id=ours.lease.lease_id),
        Selector(tenant="globex", task_id=ours.lease.task_id),
        Selector(tenant="globex", agent=ours.lease.holder),
        Selector(tenant="globex", tool=f"{REPO}#read_file"),
    ):
        request = operator_pb.RevokeLeasesRequest(selector=target, reason="mine now")
        doors.call("globex-operator", "OperatorService.RevokeLeases", request)
    found = doors.call(
        "operator", "OperatorService.GetLease", operator_pb.GetLeaseRequest(lease_id=ours.lease.lease_id)
    )
    assert found.state == 1
    lock = operator_pb.CreateLockRequest(selector=Selector(tenant="acme", agent="spiffe://example.org/x"), reason="x")
    lock_id = doors.call("operator", "OperatorService.CreateLock", lock).lock_id
    assert not doors.call("globex-operator", "OperatorService.ListLocks").locks
    lift = operator_pb.DeleteLockRequest(lock_id=lock_id)
    assert doors.refused("globex-operator", "OperatorService.DeleteLock", lift).reason is Reason.LOCK_NOT_FOUND
    doors.call("operator", "OperatorService.DeleteLock", lift)
