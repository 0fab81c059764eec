"""Agents who show what is good for one time more than once: identity tokens, and proofs of a key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import grpc

from broker.credential.keys import EcSigner
from broker.sandbox.broker import RESOURCE, TOOL
from broker.sdk.client.possession import Prover
from broker.system import system_clock, uuid7
from broker.v1 import agent_service_pb2 as pb
from broker.v1.agent_service_pb2_grpc import AgentServiceStub
from broker.v1.grant_pb2 import Grant
from tests.history.asking import CALL_SECONDS, Asking
from tests.history.events import Issue

JOB, NOTES, SEARCH = "oidc:ci:job:7", "https://notes.tools.example", "search_notes"
_PACE_SECONDS = 0.5
_TIMES = 3  # that each is shown
_NAME = 16  # characters of a signature, which name what it signs
Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Spenders:
    """Agents of one process: `channels` are for those with tokens, `mutual` for those with certificates."""

    asking: Asking
    channels: Sequence[grpc.aio.Channel]
    mutual: Sequence[grpc.aio.Channel]

    async def spend_tokens(self) -> None:
        """Show each identity token at brokers, until there is none left."""
        for token in self.asking.setting.identity_tokens:
            metadata = (("authorization", f"Bearer {token}"),)
            shown = Issue(by=self.asking.record.by, began=0.0, request="", task="", token=token[-_NAME:])
            await self._show(shown, self.channels, NOTES, SEARCH, metadata)
            await asyncio.sleep(_PACE_SECONDS)

    async def spend_proofs(self) -> None:
        """Show each proof at brokers, until cancelled."""
        prover = Prover(EcSigner.generate(), system_clock, uuid7)
        url = f"{self.asking.setting.issuer}/broker.v1.AgentService/IssueCredential"
        while True:
            proof = prover.prove("POST", url)
            shown = Issue(by=self.asking.record.by, began=0.0, request="", task="", proof=proof[-_NAME:])
            await self._show(shown, self.mutual, RESOURCE, TOOL, (("dpop", proof),))
            await asyncio.sleep(_PACE_SECONDS)

    async def _show(
        self, shown: Issue, channels: Sequence[grpc.aio.Channel], resource: str, tool: str, metadata: Metadata
    ) -> None:
        """Show one at several brokers, or several times at one: at the same time, or one after the other."""
        lot, tasks = self.asking.lot, self.asking.bus.open_tasks()
        if not tasks:
            return
        task = lot.pick(tasks)

        async def show() -> Issue:
            request = pb.IssueCredentialRequest(
                task_id=task, resource=resource, grants=[Grant(tool=tool)], request_id=uuid7()
            )
            call = AgentServiceStub(lot.pick(channels)).IssueCredential(
                request, metadata=metadata, timeout=CALL_SECONDS
            )
            return await self.asking.told(
                replace(shown, began=time.monotonic(), request=request.request_id, task=task),
                call,
                lambda answer: {"lease": answer.lease.lease_id, "index": answer.lease.index},
            )

        if lot.one_in(2):
            await asyncio.gather(*(show() for _ in range(_TIMES)))
        else:
            for _ in range(_TIMES):
                await show()
