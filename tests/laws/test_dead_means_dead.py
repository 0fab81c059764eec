"""Law 3, over real connections: when a barrier has returned, no verifier accepts what it covers."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker.cli.unverified import decode
from broker.model.errors import Reason, Refusal
from broker.sandbox.broker import AGENT, RESOURCE, TOOL, Broker, prepare, running
from broker.sdk.connect.connection import Connection, connect
from broker.sdk.connect.endpoint import Endpoint
from broker.sdk.verify.feed import Subscription
from broker.sdk.verify.presentation import Presentation
from broker.sdk.verify.verifier import Verifier
from broker.sdk.verify.watching import watching
from broker.v1 import operator_service_pb2 as pb
from broker.v1.operator_service_pb2_grpc import OperatorServiceStub
from broker.v1.selector_pb2 import Selector
from broker.v1.verifier_service_pb2 import WatchRevocationsRequest
from broker.v1.verifier_service_pb2_grpc import VerifierServiceStub
from tests.support.fakes import eventually
from tests.support.tables import bring_back, take_away

FRESHNESS_SECONDS = 10


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with running(tmp_path) as started:
        yield started


@dataclass
class Operator:
    stub: OperatorServiceStub

    async def revoke(self, token: str, *, barrier: bool) -> pb.RevokeLeasesResponse:
        selector = Selector(tenant="acme", lease_id=decode(token).claims["jti"])
        request = pb.RevokeLeasesRequest(selector=selector, reason="drill", barrier=barrier)
        return await self.stub.RevokeLeases(request, timeout=60)  # type: ignore[misc, no-any-return]


@asynccontextmanager
async def operating(broker: Broker) -> AsyncIterator[Operator]:
    async with connect(broker.address, broker.svids / "operator") as channel:
        yield Operator(OperatorServiceStub(channel))


def endpoint(broker: Broker) -> Endpoint:
    return Endpoint.of(broker.address, broker.svids / "verifier")


def reason(verifier: Verifier, token: str) -> Reason | None:
    try:
        verifier.check(token, TOOL, {}, Presentation(spiffe_id=AGENT))
    except Refusal as refusal:
        return refusal.reason
    return None


async def test_after_the_barrier_every_connected_verifier_refuses_under_a_storm_of_rules(broker: Broker) -> None:
    tokens, others = broker.issue(15), iter(broker.issue(400))
    async with AsyncExitStack() as stack:
        operator = await stack.enter_async_context(operating(broker))
        blocks = [watching(Verifier(RESOURCE), endpoint(broker)) for _ in range(10)]
        verifiers = [await stack.enter_async_context(block) for block in blocks]

        async def storm() -> None:
            for token in others:
                await operator.revoke(token, barrier=False)

        raging = asyncio.create_task(storm())
        for token in tokens:
            assert {reason(verifier, token) for verifier in verifiers} == {None}
            receipt = await operator.revoke(token, barrier=True)
            assert {reason(verifier, token) for verifier in verifiers} == {Reason.TOKEN_REVOKED}
            assert receipt.confirmed_verifiers == len(verifiers)
        raging.cancel()


async def test_the_barrier_waits_for_a_verifier_that_was_cut_off_until_it_refuses_by_itself(broker: Broker) -> None:
    (token,) = broker.issue(1)
    verifier = Verifier(RESOURCE)
    subscription = Subscription(verifier, await Connection.open(endpoint(broker)))
    following = asyncio.create_task(subscription.run())
    await subscription.wait_until_started()
    following.cancel()  # and nobody tells the verifier: it is as fresh as it was
    await asyncio.wait([following])
    await subscription.close()
    assert reason(verifier, token) is None
    async with operating(broker) as operator:
        began = time.monotonic()
        revoking = asyncio.create_task(operator.revoke(token, barrier=True))
        last_accepted = began
        while not revoking.done():
            if reason(verifier, token) is None:
                last_accepted = time.monotonic()
            await asyncio.sleep(0.005)
    assert reason(verifier, token) is Reason.VERIFIER_STALE
    assert last_accepted - began > 1, "the verifier was cut off, not told: it must have gone on for a while"
    assert time.monotonic() - began < FRESHNESS_SECONDS + 3


async def test_without_its_broker_a_verifier_refuses_within_the_freshness_window(tmp_path: Path) -> None:
    with running(tmp_path) as broker:
        (token,) = broker.issue(1)
        async with watching(Verifier(RESOURCE), endpoint(broker)) as verifier:
            assert reason(verifier, token) is None
            assert broker.pid is not None
            os.kill(broker.pid, signal.SIGKILL)
            began = time.monotonic()
            while reason(verifier, token) is None:
                assert time.monotonic() - began < FRESHNESS_SECONDS
                await asyncio.sleep(0.05)
            assert reason(verifier, token) is Reason.VERIFIER_STALE


async def test_brokers_that_share_a_database_keep_the_promise_for_each_others_verifiers(
    tmp_path: Path, new_postgresql_url: Callable[[], str]
) -> None:
    deployment = prepare(tmp_path)
    configured = deployment.configuration.read_text()
    url = new_postgresql_url().replace("postgresql+psycopg", "postgresql")
    deployment.configuration.write_text(re.sub(r'url = "broker.db"', f'url = "{url}"', configured))
    with ExitStack() as stack:
        here, there = (stack.enter_context(running(tmp_path)) for _ in range(2))
        tokens = here.issue(3)
        async with watching(Verifier(RESOURCE), endpoint(there)) as verifier, operating(here) as operator:
            for token in tokens[:1]:
                assert reason(verifier, token) is None
                await operator.revoke(token, barrier=True)
                assert reason(verifier, token) is Reason.TOKEN_REVOKED
            # Without a barrier it comes as soon as the other broker looks.
            await operator.revoke(tokens[1], barrier=False)
            await eventually(lambda: reason(verifier, tokens[1]) is Reason.TOKEN_REVOKED, seconds=2)
            assert reason(verifier, tokens[2]) is None


async def test_who_watches_anew_again_and_again_and_never_confirms_holds_no_barrier_up(broker: Broker) -> None:
    """A tool server that crashes in a loop, or one that means harm."""
    (token,) = broker.issue(1)

    async def watch_anew() -> None:
        async with connect(broker.address, broker.svids / "verifier") as channel:
            while True:
                stream = VerifierServiceStub(channel).WatchRevocations(WatchRevocationsRequest())
                await stream.read()
                await asyncio.sleep(1)
                stream.cancel()

    watching_anew = asyncio.create_task(watch_anew())
    await asyncio.sleep(2)
    async with operating(broker) as operator:
        began = time.monotonic()
        await operator.revoke(token, barrier=True)
        assert time.monotonic() - began < FRESHNESS_SECONDS + 5
    watching_anew.cancel()


async def test_a_feed_that_cannot_read_the_ledger_keeps_nobody_fresh_and_recovers_by_itself(tmp_path: Path) -> None:
    """The table is away, as in a restore; then it is there again."""
    with running(tmp_path) as broker:
        tokens = broker.issue(2)
        async with watching(Verifier(RESOURCE), endpoint(broker)) as verifier, operating(broker) as operator:
            take_away(tmp_path, "ledger_head")
            began = time.monotonic()
            await eventually(lambda: reason(verifier, tokens[0]) is Reason.VERIFIER_STALE, FRESHNESS_SECONDS + 5)
            assert time.monotonic() - began > 1, "it was fresh, and is for what is left of its window"
            bring_back(tmp_path, "ledger_head")
            await eventually(lambda: reason(verifier, tokens[0]) is None)
            await operator.revoke(tokens[0], barrier=True)
            assert reason(verifier, tokens[0]) is Reason.TOKEN_REVOKED
            await operator.revoke(tokens[1], barrier=False)
            await eventually(lambda: reason(verifier, tokens[1]) is Reason.TOKEN_REVOKED)
    assert (tmp_path / "broker.log").read_text().count("feed.database_unavailable") == 1
