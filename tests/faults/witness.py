"""Those who watch while a fault lasts: a verifier that tries every token, a caller, and one who asks for its health."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from broker.model.errors import Refusal
from broker.revocation.feed import FRESHNESS
from broker.sandbox.broker import RESOURCE, TOOL, Broker
from broker.sdk.connect.connection import connect
from broker.sdk.connect.endpoint import Endpoint
from broker.sdk.verify.verifier import Verifier
from broker.sdk.verify.watching import watching
from broker.v1 import agent_service_pb2 as agent_pb
from broker.v1 import operator_service_pb2 as operator_pb
from broker.v1.agent_service_pb2_grpc import AgentServiceStub
from broker.v1.grant_pb2 import Grant
from broker.v1.operator_service_pb2_grpc import OperatorServiceStub
from broker.v1.selector_pb2 import Selector
from tests.faults.history import History, refusal_of

T = TypeVar("T")

_SERVING = health_pb2.HealthCheckResponse.SERVING


@dataclass
class Witness:
    """A verifier that tries every token that is dead, again and again, and remembers when it last took one."""

    history: History
    verifier: Verifier = field(default_factory=lambda: Verifier(RESOURCE))
    accepted: dict[str, float] = field(default_factory=dict)  # by lease: the instant before it was tried

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            self.try_all()
            await asyncio.sleep(0.01)

    def try_all(self) -> None:
        """Try each dead lease's tokens once."""
        for lease_id in list(self.history.dead):
            for token in self.history.tokens[lease_id]:
                now = time.monotonic()
                if refusal_of(self.verifier, token) is None:
                    self.accepted[lease_id] = now

    def accepted_too_late(self) -> dict[str, float]:
        """Return, by lease, for how many seconds too long it was accepted: past a barrier, or past the window."""
        bounds = {lease: dead + FRESHNESS.total_seconds() for lease, dead in self.history.dead.items()}
        bounds |= {lease: min(bounds[lease], barred) for lease, barred in self.history.barred.items()}
        late = {lease: accepted - bounds[lease] for lease, accepted in self.accepted.items()}
        return {lease: seconds for lease, seconds in late.items() if seconds > 0}


@dataclass
class Service:
    """What a broker gives, and what it says of itself: whether the newest call succeeded, and each answer so far."""

    issuing: list[tuple[float, bool]] = field(default_factory=list)  # when it was asked, whether it gave
    newest: str = ""  # the lease that it gave last
    health: list[tuple[float, bool]] = field(default_factory=list)

    async def ask(self, broker: Broker, task_id: str) -> None:
        """Ask for a credential, a few times a second, without the SDK's patience; until cancelled."""
        async with connect(broker.address, broker.svids / "researcher") as channel:
            stub = AgentServiceStub(channel)
            request = agent_pb.IssueCredentialRequest(task_id=task_id, resource=RESOURCE, grants=[Grant(tool=TOOL)])
            while True:
                now = time.monotonic()
                answer = await _answer(stub.IssueCredential(request, timeout=3))
                self.issuing.append((now, answer is not None))
                self.newest = self.newest if answer is None else answer.lease.lease_id
                await asyncio.sleep(0.1)

    async def ask_health(self, broker: Broker) -> None:
        """Ask for the health, a few times a second, until cancelled. No answer is no."""
        async with connect(broker.address, broker.svids / "auditor") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while True:
                now = time.monotonic()
                answer = await _answer(stub.Check(health_pb2.HealthCheckRequest(), timeout=1))
                self.health.append((now, answer is not None and answer.status == _SERVING))
                await asyncio.sleep(0.1)

    async def takes_away(self, broker: Broker) -> bool:
        """Report whether an operator can revoke what it gave last."""
        selector = Selector(tenant="acme", lease_id=self.newest)
        request = operator_pb.RevokeLeasesRequest(selector=selector, reason="drill")
        async with connect(broker.address, broker.svids / "operator") as channel:
            return await _answer(OperatorServiceStub(channel).RevokeLeases(request, timeout=3)) is not None

    def issues(self, since: float) -> bool:
        """Report whether a call that was made later than an instant succeeded."""
        return any(gave for at, gave in self.issuing if at > since)

    def is_healthy(self, since: float) -> bool:
        """Report whether the newest answer, if it is to a question later than an instant, was SERVING."""
        return bool(self.health) and self.health[-1][0] > since and self.health[-1][1]

    def is_unwell(self, since: float) -> bool:
        """Report whether the newest answer, if it is to a question later than an instant, was no."""
        return bool(self.health) and self.health[-1][0] > since and not self.health[-1][1]

    def said(self, start: float, end: float) -> set[bool]:
        """Return the answers about its health to the questions of a span."""
        return {serving for at, serving in self.health if start < at < end}

    def did(self, start: float, end: float) -> set[bool]:
        """Report whether the calls of a span succeeded."""
        return {gave for at, gave in self.issuing if start < at < end}


@asynccontextmanager
async def watched(broker: Broker, history: History) -> AsyncIterator[Witness]:
    """Let a verifier watch a broker for the time of a block."""
    witness = Witness(history)
    async with AsyncExitStack() as stack:
        endpoint = Endpoint.of(broker.address, broker.svids / "verifier")
        await stack.enter_async_context(watching(witness.verifier, endpoint))
        yield witness


async def newcomer_accepts(broker: Broker, history: History) -> dict[str, float]:
    """Let a verifier start now, if the broker lets it, and try everything once."""
    try:
        async with watched(broker, history) as witness:
            witness.try_all()
            return witness.accepted_too_late()
    except Refusal:
        return {}  # it is not fresh, and accepts nothing


async def _answer(call: Awaitable[T]) -> T | None:
    try:
        return await call
    except grpc.aio.AioRpcError:
        return None
