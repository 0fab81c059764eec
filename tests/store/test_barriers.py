"""Barriers across brokers on one database: two feeds in this process, each of a broker of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

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
    asked: asyncio.Event = field(default_factory=asyncio.Event)

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
                self.asked.set()
                self.confirm(update.index)


@dataclass
class Two:
    """Two brokers on a database, and the clock of their barriers."""

    world: World
    here: Feed
    there: Feed
    clock: Monotonic


@pytest.fixture
async def two(postgresql_with_schema: Callable[[], str]) -> AsyncIterator[Two]:
    deployment, clock = Deployment(postgresql_with_schema()), Monotonic()
    async with asyncio.timeout(LONG), AsyncExitStack() as stack:
        world, elsewhere = [await stack.enter_async_context(deployment.opened()) for _ in range(2)]
        here, there = new_feed(world, clock, "here"), new_feed(elsewhere, clock, "there")
        for feed in (here, there):
            await stack.enter_async_context(running(feed))
        yield Two(world, here, there, clock)


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
