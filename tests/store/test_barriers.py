"""Barriers across brokers on one database: two feeds in this process, each of a broker of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

import pytest

from broker.model.errors import Refusal
from broker.model.selector import Selector, Target
from broker.revocation.closing import Closing, State
from broker.revocation.feed import FRESHNESS, Feed
from broker.revocation.publishing import Update
from tests.support.deployment import Deployment
from tests.support.feed import VERIFIER, new_feed, published, running
from tests.support.world import World

pytestmark = pytest.mark.postgres
LONG = 60.0  # seconds: however busy the machine is
AN_HOUR = 3_600.0
A_MOMENT = 1e-6
A_WHILE = timedelta(milliseconds=50)
EVERYTHING = Selector("acme", Target.ALL)


@dataclass
class Monotonic:
    """Seconds that pass only when told, but for a moment between any two readings."""

    now: float = AN_HOUR

    def __call__(self) -> float:
        self.now += A_MOMENT
        return self.now


@dataclass
class Watching:
    """A verifier that watches a feed, and confirms whenever it is asked to, or not."""

    feed: Feed
    updates: AsyncIterator[Update]
    session: str = ""
    secret: str = ""
    seconds: float = 0.0

    @classmethod
    async def begin(cls, feed: Feed, secret: str = "") -> Watching:
        """Watch, as far as the first message."""
        watching = cls(feed, feed.watch(VERIFIER, None, secret=secret))
        first = await anext(watching.updates)
        watching.session, watching.secret = first.session_id, first.secret
        return watching

    def confirm(self, index: int) -> None:
        self.seconds = self.feed.confirm(VERIFIER, self.session, index).total_seconds()

    async def obey(self) -> None:
        """Confirm whenever asked."""
        async for update in self.updates:
            if update.confirm:
                self.confirm(update.index)


@dataclass
class Two:
    """Two brokers on a database, and the clock of their barriers."""

    world: World
    here: Feed
    there: Feed
    clock: Monotonic


async def impatient(feed: Feed, index: int, within: timedelta, clock: Monotonic) -> Closing:
    """Hold a barrier for so long, and let time pass meanwhile, a little at a time."""
    barrier = asyncio.create_task(feed.barrier(index, "acme", within))
    while not barrier.done():
        await asyncio.sleep(0.05)
        clock.now += 0.1
    return await barrier


@pytest.fixture
async def two(postgresql_with_schema: Callable[[], str]) -> AsyncIterator[Two]:
    deployment, clock = Deployment(postgresql_with_schema()), Monotonic()
    async with asyncio.timeout(LONG), AsyncExitStack() as stack:
        world, elsewhere = [await stack.enter_async_context(deployment.opened()) for _ in range(2)]
        here, there = new_feed(world, clock, "here"), new_feed(elsewhere, clock, "there")
        for feed in (here, there):
            await stack.enter_async_context(running(feed))
        yield Two(world, here, there, clock)


def names(closing: Closing) -> list[str]:
    return [name for _, name in closing.awaited]


@asynccontextmanager
async def obeying(*verifiers: Watching) -> AsyncIterator[None]:
    """Let verifiers confirm for the time of a block."""
    tasks = [asyncio.create_task(verifier.obey()) for verifier in verifiers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_barrier_returns_when_the_other_brokers_verifiers_have_confirmed(two: Two) -> None:
    verifiers = [await Watching.begin(two.here), await Watching.begin(two.there), await Watching.begin(two.there)]
    async with obeying(*verifiers):
        for _ in range(3):
            rule = await two.world.revoke(EVERYTHING)
            closing = await two.here.barrier(rule.index, "acme")
            assert closing == Closing(state=State.CLOSED, confirmed=3, stale=0)
    assert two.clock.now < AN_HOUR + 1, "no window was waited for"


async def test_it_waits_for_a_verifier_there_that_does_not_confirm_for_as_long_as_that_is_fresh(two: Two) -> None:
    mine, other = await Watching.begin(two.here), await Watching.begin(two.there)
    other.confirm(-1)
    assert other.seconds == pytest.approx(FRESHNESS.total_seconds(), abs=0.1)
    rule = await two.world.revoke(EVERYTHING)
    barrier = asyncio.create_task(two.here.barrier(rule.index, "acme"))
    await published(mine.updates, rule)
    mine.confirm(rule.index)
    two.clock.now += other.seconds
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(barrier), 1)
    assert not barrier.done(), "its clock may be slower than ours"
    two.clock.now += 0.2
    closing = await barrier
    assert closing.state is State.CLOSED


async def test_whoever_waits_no_longer_is_told_for_whom_and_by_when(two: Two) -> None:
    mine, other = await Watching.begin(two.here), await Watching.begin(two.there)
    rule = await two.world.revoke(EVERYTHING)
    soon = await impatient(two.here, rule.index, A_WHILE, two.clock)
    assert (soon.state, names(soon)) == (State.UNKNOWN, [VERIFIER.id]), "of those elsewhere nothing is known yet"
    two.clock.now += 1  # each broker says each second what is so
    await published(mine.updates, rule)
    mine.confirm(rule.index)
    partial = await impatient(two.here, rule.index, FRESHNESS / 2, two.clock)
    assert (partial.state, names(partial), partial.confirmed) == (State.PARTIAL, [VERIFIER.id], 1)
    assert 0 < partial.seconds < FRESHNESS.total_seconds() + 1
    await published(other.updates, rule)
    other.confirm(rule.index)
    assert (await two.here.barrier(rule.index, "acme")).state is State.CLOSED


async def test_a_verifier_that_comes_again_anywhere_is_not_waited_for_twice(two: Two) -> None:
    first = await Watching.begin(two.there)
    await first.updates.aclose()  # type: ignore[attr-defined]  # the connection breaks, and it is fresh for a window
    again = await Watching.begin(two.here, first.secret)
    again.confirm(-1)
    async with obeying(again):
        rule = await two.world.revoke(EVERYTHING)
        closing = await two.here.barrier(rule.index, "acme")
    assert closing.state is State.CLOSED
    assert two.clock.now < AN_HOUR + 1, "its last session has ended with this one"


async def test_nobody_else_ends_a_session_by_its_secret_before_it_has_confirmed_in_another(two: Two) -> None:
    first = await Watching.begin(two.there)
    await first.updates.aclose()  # type: ignore[attr-defined]
    await Watching.begin(two.here, first.secret)  # and does not confirm
    rule = await two.world.revoke(EVERYTHING)
    closing = await impatient(two.here, rule.index, FRESHNESS / 2, two.clock)
    assert closing.state is not State.CLOSED


async def test_whoever_comes_when_the_broker_ends_is_told_so(two: Two) -> None:
    feed = new_feed(two.world, two.clock, "a third")
    async with running(feed):
        await Watching.begin(feed)
    with pytest.raises(Refusal, match="shutting down"):
        await Watching.begin(feed)
