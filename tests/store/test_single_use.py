"""A proof of a key gets its holder one credential: at whichever broker, after a crash, under whatever clock."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta

import pytest

from broker.lease.retention import forget_old
from broker.lease.token import Issued
from broker.model.errors import Reason, Refusal
from broker.model.principal import Once
from tests.support.deployment import Deployment
from tests.support.world import RESEARCHER, START

PROOF = Once(name="dpop 1", issued_at=START + timedelta(minutes=1), until=START + timedelta(minutes=2))
WITH_PROOF = replace(RESEARCHER, proof_key="k" * 43, spends=PROOF)


@pytest.fixture
def later(deployment: Deployment) -> Deployment:
    deployment.clock.move(timedelta(seconds=61))
    return deployment


async def test_no_broker_takes_a_proof_that_another_has_taken(later: Deployment) -> None:
    async with later.opened() as here:
        task = await here.task()
        issued = await here.issue(task, agent=WITH_PROOF)
    async with later.opened() as there:
        with pytest.raises(Refusal) as refused:
            await there.issue(task, agent=WITH_PROOF)
        assert refused.value.reason is Reason.PROOF_INVALID
        with pytest.raises(Refusal) as refused:
            await there.renew(issued, WITH_PROOF)
        assert refused.value.reason is Reason.PROOF_INVALID
        await there.issue(task, agent=replace(WITH_PROOF, spends=replace(PROOF, name="dpop 2")))


@pytest.mark.postgres
async def test_of_twenty_at_two_brokers_at_once_one_wins(later: Deployment) -> None:
    async with AsyncExitStack() as stack:
        brokers = [await stack.enter_async_context(later.opened())]
        if later.url.startswith("postgresql"):
            brokers.append(await stack.enter_async_context(later.opened()))
        task = await brokers[0].task()
        asked = [brokers[number % len(brokers)].issue(task, agent=WITH_PROOF) for number in range(20)]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
    refusals = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
    assert {refusal.reason for refusal in refusals} == {Reason.PROOF_INVALID}
    assert sum(isinstance(outcome, Issued) for outcome in outcomes) == 1
    assert len(refusals) == 19


async def test_a_proof_that_got_nothing_is_good_still(later: Deployment) -> None:
    async with later.opened() as world:
        ended = await world.task()
        await world.end(ended)
        with pytest.raises(Refusal) as refused:
            await world.issue(ended, agent=WITH_PROOF)
        assert refused.value.reason is Reason.TASK_NOT_ACTIVE
        await world.issue(await world.task(), agent=WITH_PROOF)


async def test_a_request_that_comes_again_with_its_proof_is_refused(later: Deployment) -> None:
    """Whoever has overheard both has the same request, and must not get its token."""
    async with later.opened() as world:
        task = await world.task()
        await world.issue(task, agent=WITH_PROOF, request_id="r")
        with pytest.raises(Refusal) as refused:
            await world.issue(task, agent=WITH_PROOF, request_id="r")
        assert refused.value.reason is Reason.PROOF_INVALID
        again = replace(WITH_PROOF, spends=replace(PROOF, name="dpop 2"))
        await world.issue(task, agent=again, request_id="r")
        with pytest.raises(Refusal) as refused:
            await world.issue(task, agent=again)
        assert refused.value.reason is Reason.PROOF_INVALID


async def test_a_clock_that_is_ahead_for_a_while_makes_no_broker_forget_what_was_used(later: Deployment) -> None:
    async with later.opened() as world:
        task = await world.task()
        issued = await world.issue(task, agent=WITH_PROOF, request_id="r")
        later.clock.move(timedelta(hours=23))
        await forget_old(world.desk)
        later.clock.move(-timedelta(hours=23))
        with pytest.raises(Refusal) as refused:
            await world.issue(task, agent=WITH_PROOF)
        assert refused.value.reason is Reason.PROOF_INVALID
        assert (await world.issue(task, request_id="r")).lease.id == issued.lease.id
