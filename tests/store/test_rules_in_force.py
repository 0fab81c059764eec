"""Revocations are in force as long as anything lives that they cover, whatever rows, limits and clocks say."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from broker.lease.desk import Limits
from broker.lease.retention import forget_old
from broker.lease.token import Issued
from broker.model.errors import Reason, Refusal
from broker.model.selector import Selector, Target
from tests.support.deployment import Deployment
from tests.support.world import (
    RESEARCHER,
    World,
)

# Clocks and limits of later do not shorten a revocation.


async def test_a_revocation_lasts_as_long_as_tokens_of_older_limits(deployment: Deployment) -> None:
    async with deployment.opened() as world:
        issued = await world.issue(await world.task())
    short = Limits(lifetime=timedelta(minutes=1), total_lifetime=timedelta(minutes=2))
    async with deployment.opened(short) as world:
        await world.revoke(Selector("acme", Target.AGENT, RESEARCHER.id))
    deployment.clock.now = issued.lease.expires_at - timedelta(seconds=1)
    async with deployment.opened(short) as world:
        await forget_old(world.desk)
        assert _relevant(world) == [RESEARCHER.id]


@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(days=10)], ids=["an hour", "ten days"])
async def test_a_revocation_lasts_as_long_as_tokens_of_a_clock_that_was_ahead(
    deployment: Deployment, ahead: timedelta
) -> None:
    right = deployment.clock.now
    async with deployment.opened() as world:
        deployment.clock.move(ahead)
        issued = await world.issue(await world.task())
        deployment.clock.now = right
        rule = await world.revoke(Selector("acme", Target.LEASE, issued.lease.id))
        assert rule.relevant_until >= issued.lease.expires_at
        assert _relevant(world) == [issued.lease.id]
    async with deployment.opened() as world:
        await forget_old(world.desk)
        assert _relevant(world) == [issued.lease.id]


@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(days=60)], ids=["an hour", "sixty days"])
async def test_a_clock_that_is_ahead_for_a_while_makes_no_broker_forget(
    deployment: Deployment, ahead: timedelta
) -> None:
    right = deployment.clock.now
    async with deployment.opened() as world:
        issued = await world.issue(await world.task())
        await world.revoke(Selector("acme", Target.LEASE, issued.lease.id))
        deployment.clock.move(ahead)
        await forget_old(world.desk)
        task = await world.task()
        await asyncio.gather(*(world.issue(task) for _ in range(1_100)))  # so that what is in force is committed to
        await forget_old(world.desk)
        deployment.clock.now = right
        assert _relevant(world) == [issued.lease.id]
        await _lives_not(world, issued)
    async with deployment.opened() as world:
        assert _relevant(world) == [issued.lease.id]
        await _lives_not(world, issued)
    assert deployment.problems() == []


async def test_what_is_revoked_after_a_start_with_a_clock_far_ahead_is_not_forgotten_at_once(
    deployment: Deployment,
) -> None:
    right = deployment.clock.now
    deployment.clock.move(timedelta(days=10))
    async with deployment.opened() as world:
        task = await world.task()
        await asyncio.gather(*(world.issue(task) for _ in range(1_100)))
    deployment.clock.now = right
    async with deployment.opened() as world:
        assert world.follower.in_force.horizon > right
        issued = await world.issue(await world.task())
        await world.release(issued)
        assert _relevant(world) == [issued.lease.id]
        task = await world.task()
        await asyncio.gather(*(world.issue(task) for _ in range(1_100)))
        assert _relevant(world) == [issued.lease.id]
        await _lives_not(world, issued)
    assert deployment.problems() == []


def _relevant(world: World) -> list[str]:
    return [rule.selector.value for rule in world.follower.in_force.relevant("acme")]


async def _lives_not(world: World, issued: Issued) -> None:
    with pytest.raises(Refusal) as refused:
        await world.renew(issued)
    assert refused.value.reason is Reason.LEASE_NOT_LIVE
