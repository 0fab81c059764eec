"""kill -9 under load, at random instants: what was acknowledged holds, and nothing else is in anybody's hands."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from broker.cli.bench.broker import AGENT, RESOURCE, Broker, prepare, running
from broker.cli.unverified import decode
from broker.model.errors import Reason, Refusal
from broker.model.grant import Grant, ResourceGrants
from broker.model.task import Environment, Task, TaskState
from broker.sdk.client import Client, Credential, TaskDeclaration
from broker.sdk.connection import Endpoint, connect
from broker.sdk.feed import watching
from broker.sdk.hands import Hands
from broker.sdk.verifier import Verifier
from broker.store import leases, ledger
from broker.store.database import open_database
from broker.store.verification import verify
from broker.v1 import operator_service_pb2 as pb
from broker.v1.operator_service_pb2_grpc import OperatorServiceStub
from broker.v1.selector_pb2 import Selector

if TYPE_CHECKING:
    from broker.v1.operator_service_pb2_grpc import OperatorServiceAsyncStub

SERIES, KILLS = 4, 8
DECLARATION = TaskDeclaration(
    owner="team-web",
    purpose="triage",
    environment=Environment.DEV,
    agents=[AGENT],
    tools=[ResourceGrants(RESOURCE, (Grant("read_file"),))],
    lifetime=timedelta(hours=1),
    risk_threshold=60,
)


@dataclass
class History:
    """What the broker has acknowledged to its callers: tokens by lease, and what of them it has ended."""

    tokens: dict[str, set[str]] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)
    ended: dict[str, set[str]] = field(default_factory=dict)  # leases that were acknowledged before their task's end
    of_task: dict[str, set[str]] = field(default_factory=dict)

    def keep(self, task: Task, credential: Credential) -> None:
        self.tokens.setdefault(credential.lease_id, set()).add(credential.token.reveal())
        self.of_task.setdefault(task.id, set()).add(credential.lease_id)

    def dead(self) -> set[str]:
        return self.revoked.union(*self.ended.values())


@dataclass
class Load:
    """Callers that do whatever they may, until the broker is gone."""

    broker: Broker
    history: History
    task: Task | None = None

    async def run(self) -> None:
        svids = self.broker.svids
        async with (
            Client(self.broker.address, svids / "orchestrator") as orchestrator,
            Client(self.broker.address, svids / "researcher") as agent,
            connect(self.broker.address, svids / "operator") as channel,
        ):
            operator: OperatorServiceAsyncStub = OperatorServiceStub(channel)
            self.task = await orchestrator.create_task(DECLARATION)
            callers = [self.work(agent) for _ in range(8)]
            await asyncio.gather(self.conduct(orchestrator), self.operate(operator), *callers)

    async def work(self, agent: Client) -> None:
        while True:
            task = self.task
            assert task is not None
            try:
                credential = await agent.issue(task.id, RESOURCE, [Grant("read_file")])
                self.history.keep(task, credential)
                if secrets.randbelow(3) == 0:
                    await agent.renew(credential)
                    self.history.keep(task, credential)
                if secrets.randbelow(3) == 0:
                    await agent.release(credential.lease_id)
                    self.history.revoked.add(credential.lease_id)
            except Refusal as refusal:
                if refusal.reason not in {Reason.TASK_NOT_ACTIVE, Reason.LEASE_NOT_LIVE}:
                    raise

    async def conduct(self, orchestrator: Client) -> None:
        while True:
            await asyncio.sleep(0.02)
            task = self.task
            assert task is not None
            before = set(self.history.of_task.get(task.id, ()))
            await orchestrator.end_task(task.id, TaskState.COMPLETED)
            self.history.ended[task.id] = before
            self.task = await orchestrator.create_task(DECLARATION)

    async def operate(self, operator: OperatorServiceAsyncStub) -> None:
        while True:
            await asyncio.sleep(0.01)
            alive = list(self.history.tokens.keys() - self.history.dead())
            if alive:
                lease_id = secrets.choice(alive)
                selector = Selector(tenant="acme", lease_id=lease_id)
                await operator.RevokeLeases(pb.RevokeLeasesRequest(selector=selector, reason="drill"))
                self.history.revoked.add(lease_id)


async def until_killed(broker: Broker, history: History) -> None:
    """Let load run, and kill the broker in the middle of it."""
    assert broker.pid is not None
    load = asyncio.create_task(Load(broker, history).run())
    await asyncio.sleep(0.15 + secrets.randbelow(400) / 1_000)
    os.kill(broker.pid, signal.SIGKILL)
    load.cancel()
    with pytest.raises((asyncio.CancelledError, grpc.aio.AioRpcError, Refusal)):
        await load


def check_database(url: str, vkey: str, history: History) -> None:
    """Every token in somebody's hands has its lease and its entry, and the ledger is whole."""
    report = verify(url, vkey)
    assert report.ok, report.findings
    database = open_database(url)
    try:
        with database.snapshot() as connection:
            found = leases.fetch(connection, history.tokens)
            assert found.keys() == history.tokens.keys()
            for lease in found.values():
                entry = ledger.entry(connection, lease.index)
                assert entry is not None
                assert json.loads(entry.body)["effected"]["lease"] == lease.id
    finally:
        database.close()


async def check_verifier(broker: Broker, history: History) -> None:
    """What was acknowledged as dead is dead to a verifier of the next life; the rest is refused for no other reason."""
    dead = history.dead()
    endpoint = Endpoint.of(broker.address, broker.svids / "verifier")
    async with watching(Verifier(RESOURCE), endpoint) as verifier:
        for lease_id, tokens in history.tokens.items():
            for token in tokens:
                reason = refusal_of(lambda token=token: verifier.check(token, "read_file", {}, Hands(spiffe_id=AGENT)))  # type: ignore[misc]
                assert reason is Reason.TOKEN_REVOKED or (reason is None and lease_id not in dead)


async def check_ended(broker: Broker, history: History) -> None:
    """No credential is issued for a task whose end was acknowledged."""
    async with Client(broker.address, broker.svids / "researcher") as agent:
        for task_id in list(history.ended)[-3:]:
            with pytest.raises(Refusal) as refused:
                await agent.issue(task_id, RESOURCE, [Grant("read_file")])
            assert refused.value.reason is Reason.TASK_NOT_ACTIVE


def refusal_of(act: Callable[[], object]) -> Reason | None:
    try:
        act()
    except Refusal as refusal:
        return refusal.reason
    return None


@pytest.mark.slow
@pytest.mark.parametrize("series", range(SERIES))
async def test_a_broker_killed_under_load_keeps_its_word(series: int, tmp_path: Path) -> None:
    prepare(tmp_path)
    url = f"sqlite:///{tmp_path / 'broker.db'}"
    vkey, acknowledged = "", 0
    history = History()
    for _ in range(KILLS):
        with running(tmp_path) as broker:
            await check_verifier(broker, history)
            await check_ended(broker, history)
            history = History()
            await until_killed(broker, history)
        vkey = vkey or verify(url).vkey
        check_database(url, vkey, history)
        acknowledged += len(history.tokens)
    assert acknowledged > KILLS, "the load was no load"


async def test_a_request_that_was_lost_in_a_crash_happens_once(tmp_path: Path) -> None:
    """The answer is lost with the broker; the same request again gives the one lease that it made."""
    prepare(tmp_path)
    request_id = "0198f3c2-7b1e-7c11-9d3a-5b1c2f7d9e40"
    issue: list[str] = []
    for _ in range(2):
        with running(tmp_path) as broker:
            async with Client(broker.address, broker.svids / "orchestrator") as orchestrator:
                task = await orchestrator.create_task(DECLARATION) if not issue else None
            task_id = task.id if task else issue[0]
            async with Client(broker.address, broker.svids / "researcher", ids=lambda: request_id) as agent:
                credential = await agent.issue(task_id, RESOURCE, [Grant("read_file")])
            issue += [task_id, credential.lease_id, str(decode(credential.token.reveal()).claims["jti"])]
            assert broker.pid is not None
            os.kill(broker.pid, signal.SIGKILL)
    assert issue[:3] == issue[3:]
