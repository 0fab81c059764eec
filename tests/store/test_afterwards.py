"""The second half of a change: awaited by its caller, behind the commit and beside everybody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import pytest

from broker.model.entry import Entry, Kind
from broker.model.errors import Refusal, invalid
from broker.store import ledger, tasks
from broker.store.transaction import Afterwards, Change, Transaction
from tests.support.world import World, opened


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with opened(database_url) as world:
        yield world


async def test_a_second_half_that_hangs_holds_up_nobody_else(world: World) -> None:
    hangs, goes_on = asyncio.Event(), asyncio.Event()

    async def finish(index: int) -> int:
        hangs.set()
        await goes_on.wait()
        return index

    change: Change[int] = Change(partial(_record, finish))
    slow = asyncio.create_task(world.desk.ledger.write(change))
    await hangs.wait()
    task = await world.task()
    issued = [await world.issue(task) for _ in range(3)]
    assert not slow.done()
    goes_on.set()
    assert await slow < issued[0].lease.index


async def test_what_a_second_half_raises_is_its_callers_and_the_record_stays(world: World) -> None:
    async def refuse(_index: int) -> int:
        raise invalid("key", "is nobody's")

    task = asyncio.create_task(world.task())
    change: Change[int] = Change(partial(_record, refuse))
    with pytest.raises(Refusal, match="is nobody's"):
        await world.desk.ledger.write(change)
    begun = await task
    assert begun.id in await world.desk.database.read(lambda connection: tasks.fetch(connection, [begun.id]))
    entries = await world.desk.database.read(lambda connection: list(ledger.entries(connection)))
    assert Kind.KEYS_ROTATED.value in [entry.kind for entry in entries]


async def test_a_repeated_declaration_gets_the_task_as_it_is_now(world: World) -> None:
    begun = await world.task(request_id="once")
    ended = await world.end(begun)
    again = await world.task(request_id="once")
    assert (again.id, again.changed_index) == (begun.id, ended)


def _record(finish: Callable[[int], Awaitable[int]], transaction: Transaction) -> Afterwards[int]:
    entry = Entry(kind=Kind.KEYS_ROTATED, at=transaction.at, tenant="", effected={"kids": []})
    return Afterwards(partial(finish, transaction.record(entry)))
