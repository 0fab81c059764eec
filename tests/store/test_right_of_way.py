"""What takes away waits for nothing that came before it, and loses nothing by that (docs/decisions/0019)."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from broker.lease.single_use import use_once
from broker.lease.token import Issued
from broker.model.errors import Reason, Refusal
from broker.model.lease import LeaseState
from broker.model.principal import Once
from broker.model.selector import Selector, Target
from broker.model.task import Task
from broker.store import leases, verification
from broker.store.transaction import Change, Transaction
from tests.support.world import World, opened

MANY = 700  # more than one batch takes


async def issuing(world: World, task: Task) -> list[asyncio.Task[Issued]]:
    """Let many credentials wait, before anything else is asked for."""
    waiting = [asyncio.create_task(world.issue(task)) for _ in range(MANY)]
    await asyncio.sleep(0)
    return waiting


async def states(world: World, task: Task) -> dict[int, LeaseState]:
    """Return the states of the leases of a task by their indexes."""
    selector = Selector("acme", Target.TASK, task.id)
    found = await world.desk.database.read(lambda connection: leases.page(connection, selector, None, None, 2 * MANY))
    return {lease.index: lease.state(world.clock()) for lease in found}


async def test_a_revocation_overtakes_what_waits_and_covers_all_that_is_durable_with_it(database_url: str) -> None:
    async with opened(database_url) as world:
        task = await world.task()
        earlier = await world.issue(task)
        waiting = await issuing(world, task)
        rule = await world.revoke(Selector("acme", Target.TASK, task.id))
        answered = [issued.result().lease.index for issued in waiting if issued.done()]
        later = [issued.lease.index for issued in await asyncio.gather(*waiting)]
        assert earlier.lease.index < min(later) < rule.index < max(later)
        assert all(index < rule.index for index in answered)
        for index, state in (await states(world, task)).items():
            assert state is (LeaseState.REVOKED if index < rule.index else LeaseState.LIVE)
    report = verification.verify(database_url)
    assert report.ok, report.findings


async def test_what_the_end_of_a_task_overtakes_is_refused_behind_it(database_url: str) -> None:
    async with opened(database_url) as world:
        task = await world.task()
        await world.issue(task)
        waiting = await issuing(world, task)
        end = await world.end(task)
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        refused = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
        assert {refusal.reason for refusal in refused} == {Reason.TASK_NOT_ACTIVE}
        assert all(outcome.lease.index < end for outcome in outcomes if isinstance(outcome, Issued))
        assert set((await states(world, task)).values()) == {LeaseState.REVOKED}


async def test_what_a_lock_overtakes_is_refused_behind_it(database_url: str) -> None:
    async with opened(database_url) as world:
        task = await world.task()
        await world.issue(task)
        waiting = await issuing(world, task)
        await world.lock(Selector("acme", Target.TASK, task.id))
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        refused = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
        assert {refusal.reason for refusal in refused} == {Reason.LOCKED}


async def test_who_may_take_away_is_let_in_before_what_waits(database_url: str) -> None:
    async with opened(database_url) as world:
        task = await world.task()
        await world.issue(task)
        world.clock.move(timedelta(minutes=1))
        waiting = await issuing(world, task)
        token = Once(name="a token", issued_at=world.clock(), until=world.clock() + timedelta(minutes=1))
        await use_once(world.desk, token, urgent=True)
        assert not all(issued.done() for issued in waiting)
        await asyncio.gather(*waiting)
        with pytest.raises(Refusal) as refused:
            await use_once(world.desk, token, urgent=True)
        assert refused.value.reason is Reason.ASSERTION_REPLAYED


async def test_others_have_a_place_in_each_batch_however_many_take_away(database_url: str) -> None:
    async with opened(database_url) as world:
        task = await world.task()
        await world.issue(task)
        nothing = Selector("acme", Target.LEASE, "of-nobody")
        revoking = [asyncio.create_task(world.revoke(nothing)) for _ in range(MANY)]
        await asyncio.sleep(0)
        issued = await world.issue(task)
        assert issued.lease.index < max(rule.index for rule in await asyncio.gather(*revoking))


async def test_where_too_much_waits_already_a_revocation_is_taken(database_url: str) -> None:
    def nothing(_transaction: Transaction) -> None:
        """Change nothing."""

    async with opened(database_url) as world:
        task = await world.task()
        issued = await world.issue(task)
        waiting = [asyncio.create_task(world.desk.ledger.write(Change(nothing))) for _ in range(20_000)]
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as refused:
            await world.desk.ledger.write(Change(nothing))
        assert refused.value.reason is Reason.UNAVAILABLE
        assert refused.value.hints.retry_seconds == 1
        rule = await world.revoke(Selector("acme", Target.LEASE, issued.lease.id))
        assert rule.index > issued.lease.index
        await asyncio.gather(*waiting)
