"""In a flood of calls, what takes away goes through, and whoever is turned away is told so, and when to come again."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from broker.cli.unverified import decode
from broker.model.errors import Reason, Refusal
from broker.sandbox.broker import AGENT, RESOURCE, TOOL, Broker
from broker.sdk.connect.connection import connect
from broker.sdk.connect.endpoint import Endpoint
from broker.sdk.connect.refusals import words_of_the_broker
from broker.sdk.verify.presentation import Presentation
from broker.sdk.verify.verifier import Verifier
from broker.sdk.verify.watching import watching
from broker.v1 import agent_service_pb2 as agent_pb
from broker.v1 import operator_service_pb2 as operator_pb
from broker.v1.agent_service_pb2_grpc import AgentServiceStub
from broker.v1.grant_pb2 import Grant
from broker.v1.operator_service_pb2_grpc import OperatorServiceStub
from broker.v1.selector_pb2 import Selector
from tests.support.facade import Facade

CALLERS = 2_000
CHANNELS = 8
SECONDS = 120
ROUNDS = 5
OF_AN_ADDRESS = 256

Call = Callable[[], Awaitable[object]]
Outcome = tuple[str, int]
"""What came of a call, `OK` or the reason or code of a refusal, and after how many seconds it was to come again."""
SHED = (Reason.UNAVAILABLE, 1)


@pytest.fixture(scope="module")
def verifier(facade: Facade) -> Iterator[Verifier]:
    """A verifier that is kept fresh from a thread of its own."""
    with watching(Verifier(RESOURCE), Endpoint.of(facade.broker.address, facade.broker.svids / "verifier")) as verifier:
        yield verifier


async def outcome(call: Call) -> Outcome:
    try:
        await call()
    except grpc.aio.AioRpcError as error:
        refusal = words_of_the_broker(error)
        return (
            (f"{error.code().name}, untyped", 0) if refusal is None else (refusal.reason, refusal.hints.retry_seconds)
        )
    return "OK", 0


@asynccontextmanager
async def flooding(calls: Sequence[Call], outcomes: Counter[Outcome]) -> AsyncIterator[None]:
    """Keep all callers calling for the time of a block, which begins when as many answers have come."""
    over, underway = False, asyncio.Event()

    async def caller(call: Call) -> None:
        while not over:
            outcomes[await outcome(call)] += 1
            if outcomes.total() >= CALLERS:
                underway.set()

    callers = [asyncio.create_task(caller(call)) for call in calls]
    await underway.wait()
    try:
        yield
    finally:
        over = True
        await asyncio.gather(*callers)


class Channels:
    """Connections, which take the calls of many callers by turns."""

    def __init__(self, channels: Sequence[grpc.aio.Channel]) -> None:
        self.channels = channels

    def ask(self, tool: str, task_id: str) -> list[Call]:
        """Return a call for each caller that asks for a credential for a tool."""
        request = agent_pb.IssueCredentialRequest(task_id=task_id, resource=RESOURCE, grants=[Grant(tool=tool)])
        stubs: list[Any] = [AgentServiceStub(channel) for channel in self.channels]
        return [
            partial(stubs[caller % CHANNELS].IssueCredential, request, timeout=SECONDS) for caller in range(CALLERS)
        ]

    def revoke(self) -> list[Call]:
        """Return a call for each caller that would revoke everything."""
        request = operator_pb.RevokeLeasesRequest(selector=Selector(everything=True), reason="a drill")
        stubs: list[Any] = [OperatorServiceStub(channel) for channel in self.channels]
        return [partial(stubs[caller % CHANNELS].RevokeLeases, request, timeout=SECONDS) for caller in range(CALLERS)]


@asynccontextmanager
async def agents(broker: Broker) -> AsyncIterator[Channels]:
    """Connect an agent, many times."""
    async with AsyncExitStack() as stack:
        opened = [connect(broker.address, broker.svids / "researcher") for _ in range(CHANNELS)]
        yield Channels([await stack.enter_async_context(channel) for channel in opened])


@asynccontextmanager
async def nobodies(facade: Facade) -> AsyncIterator[Channels]:
    """Connect somebody who shows nothing, many times."""
    credentials, options = grpc.ssl_channel_credentials(facade.roots), (("grpc.use_local_subchannel_pool", 1),)
    async with AsyncExitStack() as stack:
        opened = [grpc.aio.secure_channel(facade.broker.jwt_address, credentials, options) for _ in range(CHANNELS)]
        yield Channels([await stack.enter_async_context(channel) for channel in opened])


async def revoke_all(broker: Broker, tokens: Sequence[str], verifier: Verifier) -> None:
    """Revoke tokens one by one: each is refused by the verifier, which has confirmed it, when the barrier returns."""
    async with connect(broker.address, broker.svids / "operator") as channel:
        operator: Any = OperatorServiceStub(channel)
        health: Any = health_pb2_grpc.HealthStub(channel)
        for token in tokens:
            verifier.check(token, TOOL, {}, Presentation(spiffe_id=AGENT))
            selector = Selector(tenant="acme", lease_id=decode(token).claims["jti"])
            request = operator_pb.RevokeLeasesRequest(selector=selector, reason="a drill", barrier=True)
            receipt = await operator.RevokeLeases(request, timeout=SECONDS)
            assert (receipt.confirmed_verifiers, receipt.stale_verifiers) == (1, 0)
            with pytest.raises(Refusal) as refused:
                verifier.check(token, TOOL, {}, Presentation(spiffe_id=AGENT))
            assert refused.value.reason is Reason.TOKEN_REVOKED
            answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    ("flood", "answers"),
    [
        ("issuing", {("OK", 0), SHED}),
        ("refused", {(Reason.TOOL_NOT_DECLARED, 0), SHED}),
        ("nobody's", {(Reason.IDENTITY_MISSING, 0), SHED}),
    ],
)
async def test_revocations_and_confirmations_go_through_a_flood(
    facade: Facade, verifier: Verifier, flood: str, answers: set[Outcome]
) -> None:
    broker, outcomes = facade.broker, Counter[Outcome]()
    tokens, task_id = broker.issue(ROUNDS), broker.begin_task()
    async with nobodies(facade) if flood == "nobody's" else agents(broker) as channels:
        calls = {
            "issuing": lambda: channels.ask(TOOL, task_id),
            "refused": lambda: channels.ask("create_issue", task_id),
            "nobody's": channels.revoke,
        }
        async with flooding(calls[flood](), outcomes):
            await revoke_all(broker, tokens, verifier)
    assert set(outcomes) <= answers
    assert outcomes[min(answers - {SHED})]


async def test_who_is_turned_away_is_told_so_at_once_and_when_to_come_again(facade: Facade, folder: Path) -> None:
    """While the ledger cannot be written, nobody who was let in is answered."""
    task_id = facade.broker.begin_task()
    turned_away = asyncio.Event()

    async def ask(call: Call) -> Outcome:
        came = await outcome(call)
        if came == SHED:
            turned_away.set()
        return came

    async with agents(facade.broker) as channels:
        with locked(folder):
            calls = [asyncio.create_task(ask(call)) for call in channels.ask(TOOL, task_id)]
            await turned_away.wait()
        assert {await call for call in calls} <= {("OK", 0), SHED, (Reason.LEDGER_UNAVAILABLE, 0)}
    facade.broker.issue(1)


async def test_who_is_not_known_yet_counts_against_its_address(facade: Facade, verifier: Verifier) -> None:
    """While an issuer does not answer, all wait who show a token with a key that it may have by now."""
    facade.issuer.mood = "slow"
    request = operator_pb.ListLocksRequest()
    async with nobodies(facade) as channels:
        stubs: list[Any] = [OperatorServiceStub(channel) for channel in channels.channels]
        shown = (("authorization", f"Bearer {facade.issuer.token(facade.url, {'kid': 'new'})}"),)
        asks = [partial(stub.ListLocks, request, metadata=shown, timeout=SECONDS) for stub in stubs]
        calls = [asyncio.create_task(outcome(asks[n % CHANNELS])) for n in range(2 * OF_AN_ADDRESS)]
        await revoke_all(facade.broker, facade.broker.issue(1), verifier)
        outcomes = Counter([await call for call in calls])
    facade.issuer.mood = "well"
    assert {reason for reason, _ in outcomes} == {Reason.UNAVAILABLE}
    assert outcomes[SHED] == OF_AN_ADDRESS


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let nobody write to the database for the time of a block."""
    connection = sqlite3.connect(folder / "broker.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.close()
