"""What a quota counts: what lives, in whichever batch, by whichever broker, and nothing refused or repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from broker.lease import tasks
from broker.lease.desk import Limits
from broker.lease.retention import forget_old
from broker.model.errors import Reason, Refusal
from broker.model.task import Task
from tests.support.world import ORCHESTRATOR, START, ManualClock, World, note_signer, opened, principal

HOUR = timedelta(hours=1)


async def over(attempt: object, quota: str) -> None:
    with pytest.raises(Refusal) as refused:
        await attempt  # type: ignore[misc]
    assert refused.value.reason is Reason.QUOTA_EXCEEDED
    assert refused.value.hints.missing == quota


def made(outcomes: Sequence[object]) -> int:
    reasons = {outcome.reason for outcome in outcomes if isinstance(outcome, Refusal)}
    assert reasons <= {Reason.QUOTA_EXCEEDED}
    return sum(not isinstance(outcome, BaseException) for outcome in outcomes)


async def extend(world: World, task: Task, by: timedelta) -> Task:
    return await tasks.extend(world.desk, ORCHESTRATOR, task.id, world.clock() + by)


async def test_tasks_begun_in_one_batch_count(database_url: str) -> None:
    async with opened(database_url, limits=Limits(active_tasks=10)) as world:
        assert made(await asyncio.gather(*(world.task() for _ in range(100)), return_exceptions=True)) == 10
        await over(world.task(), "active_tasks")


async def test_tasks_past_their_deadline_do_not_count(database_url: str) -> None:
    async with opened(database_url, limits=Limits(active_tasks=3)) as world:
        for _ in range(3):
            await world.task(deadline=world.clock() + HOUR)
        await over(world.task(), "active_tasks")
        world.clock.move(HOUR)
        assert made(await asyncio.gather(*(world.task() for _ in range(9)), return_exceptions=True)) == 3


async def test_tasks_ended_make_room_for_the_next_batch_and_not_for_their_own(database_url: str) -> None:
    """In its batch the end of a task comes last (docs/decisions/0019)."""
    async with opened(database_url, limits=Limits(active_tasks=3)) as world:
        begun = [await world.task() for _ in range(3)]
        outcomes = await asyncio.gather(
            world.task(), world.end(begun[0]), world.task(), world.task(), return_exceptions=True
        )
        assert [outcome for outcome in outcomes if not isinstance(outcome, Refusal)] == [outcomes[1]], "the end alone"
        assert made(await asyncio.gather(world.task(), world.task(), return_exceptions=True)) == 1
        await over(world.task(), "active_tasks")


async def test_a_task_that_an_extension_brings_back_counts(database_url: str) -> None:
    async with opened(database_url, limits=Limits(active_tasks=2)) as world:
        passed = [await world.task(deadline=world.clock() + HOUR) for _ in range(2)]
        extended = await extend(world, passed[0], 2 * HOUR)
        world.clock.move(HOUR)
        await world.task()
        await over(extend(world, passed[1], 4 * HOUR), "active_tasks")
        await extend(world, extended, 5 * HOUR)  # it lives, so it counts already
        await over(world.task(), "active_tasks")
        world.clock.move(4 * HOUR)
        outcomes = await asyncio.gather(
            extend(world, passed[1], HOUR), world.task(), world.task(), return_exceptions=True
        )
        assert made(outcomes) == 1, "one lives, one comes back, and there is room for no other"


async def test_repeated_and_refused_requests_count_once_or_not_at_all(database_url: str) -> None:
    limits = Limits(active_tasks=2, leases_per_task=3)
    async with opened(database_url, limits=limits) as world:
        task, *again = await asyncio.gather(*(world.task(request_id="t1") for _ in range(5)))
        assert {item.id for item in again} == {task.id}
        await over_once(world)
        issued = await asyncio.gather(*(world.issue(task, request_id="r1") for _ in range(5)))
        assert len({item.lease.id for item in issued}) == 1
        outcomes = await asyncio.gather(
            *(world.issue(task, "create_issue", request_id=f"c{n}") for n in range(3)),
            *(world.issue(task, "no_such_tool") for _ in range(3)),
            return_exceptions=True,
        )
        refused = sum(isinstance(outcome, Refusal) for outcome in outcomes)
        rest = await asyncio.gather(*(world.issue(task) for _ in range(6)), return_exceptions=True)
        assert made(rest) == 3 - 1 - (len(outcomes) - refused)


async def over_once(world: World) -> None:
    """Use the tenant's last place up, and see that another tenant has its own."""
    await world.task()
    await over(world.task(), "active_tasks")
    await world.task(orchestrator=principal(ORCHESTRATOR.id, next(iter(ORCHESTRATOR.roles)), tenant="globex"))


async def test_two_brokers_count_together(database_url: str) -> None:
    limits, key = Limits(active_tasks=5, leases_per_task=7), note_signer()
    async with (
        opened(database_url, limits=limits, note_key=key) as one,
        opened(database_url, limits=limits, note_key=key) as two,
    ):
        both = [one, two] * 10
        assert made(await asyncio.gather(*(world.task() for world in both), return_exceptions=True)) == 5
        task = (await tasks.page(one.desk, ORCHESTRATOR, None, None, 1))[0]
        assert made(await asyncio.gather(*(world.issue(task) for world in both), return_exceptions=True)) == 7


async def test_brokers_whose_clocks_are_in_two_minutes_by_turns_begin_none_anew(database_url: str) -> None:
    limits, key = Limits(leases_per_minute=10), note_signer()
    late = ManualClock(START + timedelta(minutes=1))
    async with (
        opened(database_url, limits=limits, note_key=key) as one,
        opened(database_url, limits=limits, note_key=key, clock=late) as two,
    ):
        task = await one.task()
        outcomes: list[object] = []
        for world in [one, two] * 15:
            outcomes += await asyncio.gather(world.issue(task), return_exceptions=True)
        assert made(outcomes) == 2 * 10


async def test_counts_of_minutes_long_past_are_forgotten(database_url: str) -> None:
    async with opened(database_url, limits=Limits(leases_per_minute=1, retention=HOUR)) as world:
        task = await world.task()
        for _ in range(3):
            await world.issue(task)
            world.clock.move(timedelta(minutes=1))
        await world.issue(task)
        world.clock.move(HOUR)
        await forget_old(world.desk)
        world.clock.move(-HOUR)
        await over(world.issue(task), "leases_per_minute")
        world.clock.move(timedelta(minutes=-3))
        await world.issue(task)
