"""Those who begin and end tasks and revoke what was given, most of it with a barrier."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import grpc

from broker.model.errors import Reason
from broker.model.grant import Grant, ResourceGrants
from broker.model.task import Declaration, Environment, TaskState
from broker.sandbox.broker import AGENT, RESOURCE, TOOL
from broker.sdk.client.client import Client
from broker.system import system_clock, uuid7
from broker.v1 import operator_service_pb2 as pb
from broker.v1.operator_service_pb2_grpc import OperatorServiceStub
from broker.v1.selector_pb2 import Selector
from tests.history.asking import BARRIER_SECONDS, REQUEST, Asking
from tests.history.events import Begin, Revoke
from tests.history.recording import Marked
from tests.history.spending import JOB, NOTES, SEARCH

_NOTICE_SECONDS = 0.15  # until verifiers try what was marked all the time
_RECENT = 40
_WITHOUT_BARRIER, _WHOLE_TASK = 4, 6  # one revocation in so many
_FEW = 2  # tasks that are left open


@dataclass(frozen=True, slots=True)
class Orchestrators:
    """Orchestrators of one process, with a client for each broker; those who end tasks wait for long."""

    asking: Asking
    beginning: Sequence[Client]
    ending: Sequence[Client]

    async def begin(self) -> None:
        """Begin tasks, more than there is room for, until cancelled."""
        declaration = Declaration(
            owner="tests",
            purpose="try",
            environment=Environment.DEV,
            agents=[AGENT, JOB],
            tools=[ResourceGrants(RESOURCE, (Grant(TOOL),)), ResourceGrants(NOTES, (Grant(SEARCH),))],
            deadline=system_clock() + timedelta(hours=4),  # the same, whenever it is asked again
            risk_threshold=60,
        )

        async def ask(broker: int, request: str) -> Begin:
            REQUEST.set(request)
            event = Begin(by=self.asking.record.by, began=time.monotonic(), request=request)
            call = self.beginning[broker].create_task(declaration)
            return await self.asking.told(event, call, lambda task: {"task": task.id})

        while True:
            request = uuid7()
            event = await self.asking.surely(lambda broker: ask(broker, request))  # noqa: B023 (awaited)
            await asyncio.sleep(1.0 if event.refused == Reason.QUOTA_EXCEEDED else 0.2)

    async def end(self) -> None:
        """End tasks, until cancelled."""
        lot, bus = self.asking.lot, self.asking.bus
        while True:
            await asyncio.sleep(lot.between(0.5, 2))
            tasks = bus.open_tasks()
            if len(tasks) > _FEW:
                bus.over.add(tasks[0])
                self.asking.record.note(Marked(tasks[0]))
                await asyncio.sleep(_NOTICE_SECONDS)
                barrier = not lot.one_in(_WITHOUT_BARRIER)
                await self.asking.surely(lambda broker: self._end(broker, tasks[0], barrier=barrier))  # noqa: B023

    async def _end(self, broker: int, task: str, *, barrier: bool) -> Revoke:
        event = Revoke(
            by=self.asking.record.by, began=time.monotonic(), rule=task, task=task, ends=True, barrier=barrier
        )
        call = self.ending[broker].end_task(task, TaskState.COMPLETED, barrier=barrier)
        return await self.asking.told(event, call, lambda index: {"index": index})


@dataclass(frozen=True, slots=True)
class Operators:
    """Operators of one process, with a channel to each broker."""

    asking: Asking
    channels: Sequence[grpc.aio.Channel]

    async def run(self) -> None:
        """Revoke as one operator, until cancelled."""
        lot, bus = self.asking.lot, self.asking.bus
        while True:
            await asyncio.sleep(lot.between(0.1, 0.6))
            live = bus.unmarked()[-_RECENT:]
            if not live:
                continue
            given, barrier = lot.pick(live), not lot.one_in(_WITHOUT_BARRIER)
            lease, task = ("", given.task) if lot.one_in(_WHOLE_TASK) else (given.lease, "")
            self.asking.record.note(Marked(lease or task))
            bus.marked.add(lease or task)
            await asyncio.sleep(_NOTICE_SECONDS)
            await self._revoke(lot.pick(self.channels), lease, task, barrier=barrier)

    async def _revoke(self, channel: grpc.aio.Channel, lease: str, task: str, *, barrier: bool) -> None:
        event = Revoke(
            by=self.asking.record.by, began=time.monotonic(), rule=uuid7(), lease=lease, task=task, barrier=barrier
        )
        selector = Selector(tenant="acme", lease_id=lease) if lease else Selector(tenant="acme", task_id=task)
        request = pb.RevokeLeasesRequest(selector=selector, reason="drill", barrier=barrier)
        call = OperatorServiceStub(channel).RevokeLeases(request, timeout=BARRIER_SECONDS)
        await self.asking.told(event, call, lambda answer: {"index": answer.rule.index})
