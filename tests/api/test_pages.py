"""Lists are cut before they are larger than what every gRPC client takes, whatever is in them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from broker.api.verifiers import VerifierService
from broker.model.clock import to_micros
from broker.model.selector import Cause, RevocationRule, Selector, Target
from broker.revocation.publishing import Update
from broker.system import system_clock
from broker.v1 import agent_service_pb2 as agent_pb
from broker.v1 import auditor_service_pb2 as auditor_pb
from broker.v1 import grant_pb2, selector_pb2
from broker.v1 import operator_service_pb2 as operator_pb
from broker.v1 import orchestrator_service_pb2 as orchestrator_pb
from broker.v1.verifier_service_pb2 import RevocationUpdate, WatchRevocationsRequest
from tests.support.doors import Doors

REPO = "https://repo.tools.example"
RESEARCHER = "spiffe://example.org/agent/researcher"
TAKEN = 4 * 1024 * 1024
MANY = 100


@pytest.fixture(scope="module")
def task_ids(doors: Doors) -> list[str]:
    """A hundred tasks, each as large as an entry lets it be."""
    long = [grant_pb2.Scalar(text="x" * 1_000)]
    constraints = [grant_pb2.Constraint(path=f"/{n}", op=grant_pb2.OPERATOR_EQ, values=long) for n in range(31)]
    grants = [grant_pb2.Grant(tool="read_file", constraints=constraints), grant_pb2.Grant(tool="list_files")]
    declared = orchestrator_pb.CreateTaskRequest(
        owner="alice",
        purpose="triage",
        environment="dev",
        agents=[f"spiffe://example.org/{'y' * 500}/{n}" for n in range(40)] + [RESEARCHER],
        tools=[grant_pb2.ResourceGrants(resource=REPO, grants=grants)],
        deadline=Timestamp(seconds=to_micros(system_clock()) // 1_000_000 + 3_600),
        risk_threshold=60,
    )
    return [doors.call("orchestrator", "OrchestratorService.CreateTask", declared).task_id for _ in range(MANY)]


def everything(doors: Doors, who: str, rpc: str, request: Any, field: str) -> Iterator[Any]:
    """Follow the pages; each must be one that is taken."""
    while True:
        answer: Message = doors.call(who, rpc, request)
        assert answer.ByteSize() < TAKEN
        found = getattr(answer, field)
        yield from found
        request.page_token = answer.next_page_token  # type: ignore[attr-defined]
        if not request.page_token:
            return
        assert found, "an empty page would be the last"


def test_large_tasks_are_all_listed_once(doors: Doors, task_ids: list[str]) -> None:
    for size in (0, 7, 1_000):
        request = orchestrator_pb.ListTasksRequest(page_size=size)
        found = everything(doors, "orchestrator", "OrchestratorService.ListTasks", request, "tasks")
        assert [task.task_id for task in found] == task_ids[::-1]


def test_so_are_their_entries(doors: Doors, task_ids: list[str]) -> None:
    asked = auditor_pb.ListEntriesRequest(page_size=1_000)
    found = list(everything(doors, "auditor", "AuditorService.ListEntries", asked, "entries"))
    indexes = [entry.index for entry in found]
    assert indexes == list(range(indexes[0], indexes[0] + len(found)))
    assert sum(b'"task.created"' in entry.body for entry in found) == MANY


def test_so_are_their_leases(doors: Doors, task_ids: list[str]) -> None:
    issued = []
    for task_id in task_ids:
        request = agent_pb.IssueCredentialRequest(
            task_id=task_id, resource=REPO, grants=[grant_pb2.Grant(tool="list_files")]
        )
        issued.append(doors.call("researcher", "AgentService.IssueCredential", request).lease.lease_id)
    asked = operator_pb.ListLeasesRequest(page_size=1_000)
    found = everything(doors, "operator", "OperatorService.ListLeases", asked, "leases")
    assert [lease.lease_id for lease in found] == issued[::-1]


def test_locks_come_in_pages_too(doors: Doors) -> None:
    agent = f"spiffe://example.org/{'z' * 1_900}"

    def make(number: int) -> tuple[int, str]:
        selector = selector_pb2.Selector(tenant="acme", agent=f"{agent}/{number}")
        request = operator_pb.CreateLockRequest(selector=selector, reason="\u00fc" * 512)
        lock = doors.call("operator", "OperatorService.CreateLock", request)
        return lock.index, lock.lock_id

    doors.channel("operator")  # which all share
    with ThreadPoolExecutor(16) as pool:
        made = [lock_id for _index, lock_id in sorted(pool.map(make, range(1_100)))]
    for size in (0, 300):
        asked = operator_pb.ListLocksRequest(page_size=size)
        found = everything(doors, "operator", "OperatorService.ListLocks", asked, "locks")
        assert [lock.lock_id for lock in found] == made
    command = [sys.executable, "-m", "broker", "lock", "list", "-o", "json"]
    listed = subprocess.run(command, env=doors.broker.environment("operator"), capture_output=True, check=True)
    assert len(json.loads(listed.stdout)["locks"]) == 1_100


async def test_a_burst_of_rules_comes_in_messages_that_are_taken() -> None:
    now = system_clock()
    rules = [
        RevocationRule(
            index=number,
            selector=Selector("acme", Target.AGENT, f"spiffe://example.org/{'x' * 2_000}/{number}"),
            cause=Cause.OPERATOR,
            recorded_at=now,
            relevant_until=now,
        )
        for number in range(5_000)
    ]

    class Bursting:
        async def watch(self, *_: object) -> AsyncIterator[Update]:
            yield Update(
                session_id="s", rules=rules, index=4_999, snapshot=True, confirm=True, keys_changed=True, tenant="acme"
            )

    class Desk:
        clock = staticmethod(system_clock)

    service: Any = VerifierService
    stream = service(Desk(), Bursting(), None).watch_revocations(None, WatchRevocationsRequest())
    async with aclosing(stream) as messages:
        heard: list[RevocationUpdate] = [message async for message in messages]
    assert all(message.ByteSize() < TAKEN for message in heard)
    assert [rule.index for message in heard for rule in message.rules] == list(range(5_000))
    first, last = [True] + [False] * (len(heard) - 1), [False] * (len(heard) - 1) + [True]
    assert [message.snapshot for message in heard] == first
    assert [message.keys_changed for message in heard] == first
    assert [message.confirm for message in heard] == last
    assert [not message.more for message in heard] == last
    assert len(heard) > 2
