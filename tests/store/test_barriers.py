"""A barrier waits for verifiers that it cannot know: those of other brokers on the same database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from broker.model.selector import Selector, Target
from broker.revocation.feed import Feed
from broker.revocation.freshness import Receipt
from broker.store import migrate
from broker.system import uuid7
from tests.support.deployment import Deployment
from tests.support.feed import VERIFIER, published, running

LONG = 60.0  # seconds: however busy the machine is
AN_HOUR = 3_600.0
TURNS = 100  # of the event loop, in which whoever has nothing to wait for comes to its end


@dataclass
class Monotonic:
    """Seconds that pass only when told."""

    now: float = AN_HOUR

    def __call__(self) -> float:
        return self.now


@pytest.mark.postgres
async def test_a_barrier_waits_for_as_long_as_another_broker_keeps_its_verifiers_fresh(
    new_postgresql_url: Callable[[], str],
) -> None:
    deployment, clock = Deployment(new_postgresql_url()), Monotonic()
    migrate.upgrade(deployment.url)
    async with asyncio.timeout(LONG), deployment.opened() as world, deployment.opened() as elsewhere:
        here, there = (Feed(each.desk.database, each.follower, clock, uuid7) for each in (world, elsewhere))
        clock.now += AN_HOUR  # nobody is left of a former life
        async with running(here), running(there):
            heard, unheard = here.watch(VERIFIER, None), there.watch(VERIFIER, None)
            session, other_session = (await anext(heard)).session_id, (await anext(unheard)).session_id
            seconds = there.confirm(VERIFIER, other_session, -1).total_seconds()
            assert seconds > 1
            rule = await world.revoke(Selector("acme", Target.ALL))
            barrier = asyncio.create_task(here.barrier(rule.index, "acme"))
            await published(heard, rule)
            clock.now += seconds - 1
            here.confirm(VERIFIER, session, rule.index)  # now all have whom it knows
            for _ in range(TURNS):
                await asyncio.sleep(0)
            assert not barrier.done(), "the other broker's verifier accepts for another second"
            clock.now += 1
            here.confirm(VERIFIER, session, rule.index)
            assert await barrier == Receipt(confirmed=1, stale=0)
            await heard.aclose(), await unheard.aclose()  # type: ignore[attr-defined]  # they are async generators
