"""Agents, who ask for credentials and give their tokens to all who would use or revoke them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from broker.cli.unverified import decode
from broker.model.grant import Grant
from broker.sandbox.broker import RESOURCE, TOOL
from broker.sdk.client.client import Client
from broker.sdk.client.credential import Credential
from broker.sdk.client.secret import Secret
from broker.system import system_clock, uuid7
from tests.history.asking import REQUEST, Asking
from tests.history.events import Issue, Renew
from tests.history.recording import Given

_PACE_SECONDS = 0.2
_RENEWED = 3  # one credential in so many
_TOO_LATE = 8  # of so many requests, one is for a task that may have ended


@dataclass(frozen=True, slots=True)
class Agents:
    """Agents of one process, with a client for each broker."""

    asking: Asking
    clients: Sequence[Client]

    async def run(self) -> None:
        """Be one agent, until cancelled."""
        lot, bus = self.asking.lot, self.asking.bus
        while True:
            tasks = list(bus.tasks) if lot.one_in(_TOO_LATE) else bus.open_tasks()
            if tasks:
                request, task = uuid7(), lot.pick(tasks)
                issue = await self.asking.everywhere(lambda broker: self._ask(broker, request, task))  # noqa: B023 (awaited)
                if issue.lease and lot.one_in(_RENEWED):
                    await asyncio.sleep(lot.between(0, 2))
                    again = uuid7()
                    await self.asking.everywhere(lambda broker: self._renew(broker, again, issue))  # noqa: B023
            await asyncio.sleep(_PACE_SECONDS * lot.between(0.5, 1.5))

    async def _ask(self, broker: int, request: str, task: str) -> Issue:
        REQUEST.set(request)
        event = Issue(by=self.asking.record.by, began=time.monotonic(), request=request, task=task)
        return await self.asking.told(
            event,
            self.clients[broker].issue(task, RESOURCE, [Grant(TOOL)]),
            lambda credential: self._given(task, credential),
        )

    async def _renew(self, broker: int, request: str, issue: Issue) -> Renew:
        REQUEST.set(request)
        credential = Credential(lease_id=issue.lease, resource=RESOURCE, token=Secret(""), expires_at=system_clock())

        def renewed(_none: None) -> Mapping[str, object]:
            self._given(issue.task, credential)
            return {}

        event = Renew(by=self.asking.record.by, began=time.monotonic(), lease=issue.lease)
        return await self.asking.told(event, self.clients[broker].renew(credential), renewed)

    def _given(self, task: str, credential: Credential) -> Mapping[str, object]:
        token = credential.token.reveal()
        self.asking.record.note(Given(lease=credential.lease_id, task=task, token=token))
        return {"lease": credential.lease_id, "index": decode(token).claims["credbroker"]["index"]}
