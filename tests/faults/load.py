"""Callers of every kind who do whatever they may, without rest, whatever happens to the broker."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc

from broker.model.errors import Reason, Refusal
from broker.model.grant import Grant
from broker.model.task import Task, TaskState
from broker.sandbox.broker import RESOURCE, TOOL, Broker
from broker.sdk.client.client import Client
from broker.sdk.connect.connection import connect
from broker.sdk.connect.refusals import refusal_from
from broker.system import uuid7
from broker.v1 import auditor_service_pb2 as audit_pb
from broker.v1 import operator_service_pb2 as pb
from broker.v1.auditor_service_pb2_grpc import AuditorServiceStub
from broker.v1.operator_service_pb2_grpc import OperatorServiceStub
from broker.v1.selector_pb2 import Selector
from tests.faults.history import History

if TYPE_CHECKING:
    from broker.v1.auditor_service_pb2_grpc import AuditorServiceAsyncStub
    from broker.v1.operator_service_pb2_grpc import OperatorServiceAsyncStub

_CALL_SECONDS = 30.0
_LOSERS = frozenset({Reason.TASK_NOT_ACTIVE, Reason.LEASE_NOT_LIVE})  # of a race with one who ends it
_PAUSE_SECONDS = 0.1  # after a refusal
_RENEWED, _RELEASED = range(3), range(3, 5)  # of ten


@dataclass
class _RequestId:
    """The id of the call that a client is about to make."""

    id: str = ""

    def __call__(self) -> str:
        return self.id


@dataclass
class Load:
    """Agents, an orchestrator, operators and an auditor. `operated` is where the operators call, if not here too.

    `pace` is how long each rests after a call, in seconds.
    """

    broker: Broker
    history: History
    operated: Broker
    agents: int = 8
    pace: float = 0.0
    task: Task | None = None
    refusals: Counter[Reason] = field(default_factory=Counter)

    async def run(self) -> None:
        """Go on until cancelled."""
        async with AsyncExitStack() as stack:
            orchestrator = await stack.enter_async_context(self._client("orchestrator"))
            audits = await stack.enter_async_context(connect(self.broker.address, self.broker.svids / "auditor"))
            operators = await stack.enter_async_context(connect(self.operated.address, self.broker.svids / "operator"))
            operator: OperatorServiceAsyncStub = OperatorServiceStub(operators)
            auditor: AuditorServiceAsyncStub = AuditorServiceStub(audits)
            await self._forever(lambda: self._begin(orchestrator), until=lambda: self.task is not None)
            async with asyncio.TaskGroup() as group:
                for _ in range(self.agents):
                    group.create_task(self._agent())
                group.create_task(self._forever(lambda: self._end(orchestrator)))
                group.create_task(self._forever(lambda: self._revoke(operator, barrier=False)))
                group.create_task(self._forever(lambda: self._revoke(operator, barrier=True)))
                group.create_task(self._forever(lambda: self._look(auditor)))

    def _client(self, name: str, ids: Callable[[], str] = uuid7) -> Client:
        return Client(self.broker.address, self.broker.svids / name, ids=ids)

    async def _forever(self, act: Callable[[], Awaitable[None]], until: Callable[[], bool] = lambda: False) -> None:
        """Act again and again; take a refusal for what it is."""
        while not until():
            try:
                await act()
                await asyncio.sleep(self.pace)
            except Refusal as refusal:
                await self._refused(refusal)
            except grpc.aio.AioRpcError as error:
                await self._refused(refusal_from(error))

    async def _refused(self, refusal: Refusal) -> None:
        if refusal.reason not in _LOSERS:
            self.refusals[refusal.reason] += 1
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _begin(self, orchestrator: Client) -> None:
        self.task = await orchestrator.create_task(self.broker.declaration())
        self.history.created.add(self.task.id)

    async def _end(self, orchestrator: Client) -> None:
        task = self._current()
        await asyncio.sleep(secrets.randbelow(200) / 1_000)
        await orchestrator.end_task(task.id, TaskState.COMPLETED)
        self.history.end(task.id)
        await self._begin(orchestrator)

    async def _agent(self) -> None:
        request = _RequestId()
        async with self._client("researcher", request) as agent:
            await self._forever(lambda: self._live(agent, request))

    async def _live(self, agent: Client, request: _RequestId) -> None:
        """Get a credential; perhaps renew or release it."""
        task = self._current()
        request.id = request_id = uuid7()
        self.history.unanswered[request_id] = task.id
        # Refused, it stays: what was refused may be the repetition of a call that was done, and whose answer was lost.
        credential = await agent.issue(task.id, RESOURCE, [Grant(TOOL)])
        del self.history.unanswered[request_id]
        self.history.keep(task, credential)
        request.id = uuid7()
        lot = secrets.randbelow(10)
        if lot in _RENEWED:
            await agent.renew(credential)
            self.history.keep(task, credential)
        elif lot in _RELEASED:
            await agent.release(credential.lease_id)
            self.history.bury(credential.lease_id)

    async def _revoke(self, stub: OperatorServiceAsyncStub, *, barrier: bool) -> None:
        await asyncio.sleep(0.02)
        alive = self.history.alive()
        if not alive:
            return
        lease_id = secrets.choice(alive)
        selector = Selector(tenant="acme", lease_id=lease_id)
        request = pb.RevokeLeasesRequest(selector=selector, reason="drill", barrier=barrier)
        await stub.RevokeLeases(request, timeout=_CALL_SECONDS)
        (self.history.bar if barrier else self.history.bury)(lease_id)

    async def _look(self, stub: AuditorServiceAsyncStub) -> None:
        answer = await stub.GetCheckpoint(audit_pb.GetCheckpointRequest(), timeout=_CALL_SECONDS)
        self.history.notes.add(answer.checkpoint.note)
        await asyncio.sleep(0.01)

    def _current(self) -> Task:
        assert self.task is not None
        return self.task
