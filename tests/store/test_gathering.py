"""Who comes at the same time is served together; nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from broker.store.gathering import Gathering, until_quiet
from broker.store.queues import Queues
from broker.store.transaction import Change


@asynccontextmanager
async def arriving(waiting: list[int], most: int) -> AsyncIterator[None]:
    """Let one join in each turn of the event loop, up to so many."""

    async def arrive() -> None:
        while len(waiting) < most:
            waiting.append(len(waiting))
            await asyncio.sleep(0)

    task = asyncio.create_task(arrive())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_those_who_keep_coming_are_waited_for() -> None:
    waiting = [0]
    async with arriving(waiting, 100):
        await until_quiet(waiting, 1_000)
        assert len(waiting) == 100


async def test_no_more_are_waited_for_than_can_be_served_at_once() -> None:
    waiting = list(range(1_000))
    async with arriving(waiting, 100_000):
        await until_quiet(waiting, 1_000)
        assert len(waiting) == 1_000


async def test_nobody_waits_for_ever_however_many_keep_coming() -> None:
    waiting = [0]
    async with arriving(waiting, 1_000_000_000):
        await asyncio.wait_for(until_quiet(waiting, 1_000_000_000), 60)


async def test_where_nobody_waits_there_is_nobody_to_wait_for() -> None:
    waiting: list[int] = []
    async with arriving(waiting, 1):
        await until_quiet(waiting, 1_000)
        assert not waiting


class Joined:
    """Whom others join each time that anybody looks; after so many looks somebody is urgent."""

    def __init__(self, after: int) -> None:
        self.looks, self.after, self.urgent = 0, after, list[int]()

    def __len__(self) -> int:
        self.looks += 1
        if self.looks == self.after:
            self.urgent.append(0)
        return self.looks


@pytest.mark.parametrize("after", [1, 2, 5, 20])
async def test_nobody_is_waited_for_once_anybody_is_urgent(after: int) -> None:
    waiting = Joined(after)
    await until_quiet(waiting, 1_000_000_000, waiting.urgent)
    assert waiting.looks <= after + 2


async def test_a_moment_is_over_when_the_last_of_those_who_are_expected_has_joined() -> None:
    waiting = [0, 1]
    gathering = Gathering(waiting)
    quiet = asyncio.create_task(gathering.until_quiet(4))
    await asyncio.sleep(0)
    waiting.append(2)
    for _ in range(2):
        await asyncio.sleep(0)  # somebody has joined: from here on it waits for a moment at a time
    waiting.append(3)
    gathering.joined()
    await asyncio.sleep(0)
    assert quiet.done()
    await quiet


async def test_whoever_has_called_alone_is_served_at_once() -> None:
    turned: list[None] = []
    asyncio.get_running_loop().call_soon(turned.append, None)
    await until_quiet([0], 1)
    assert not turned


async def _turns(queues: Queues) -> int:
    """Count the turns of the event loop until a batch is gathered, and take it."""
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        handle[0] = asyncio.get_running_loop().call_soon(turn)

    handle = [asyncio.get_running_loop().call_soon(turn)]
    await queues.gather()
    handle[0].cancel()
    return turns


async def test_of_few_callers_no_more_are_waited_for_than_are_known_but_now_and_then() -> None:
    queues = Queues()
    waited = []
    for _ in range(32):
        for _ in range(3):
            queues.add(Change(lambda _transaction: None))
        waited.append(await _turns(queues) > 0)
        queues.served(queues.take())
    assert waited == 2 * [True, *15 * [False]]
    queues.add(Change(lambda _transaction: None))
    assert await _turns(queues) > 0  # two are missing, and might come
    queues.take()


async def test_it_looks_around_more_seldom_for_as_long_as_nobody_is_found() -> None:
    queues = Queues()
    waited = []
    for number in range(545):
        for _ in range(2 if number == 512 else 1):
            queues.add(Change(lambda _transaction: None))
        if await _turns(queues) > 0:
            waited.append(number)
        queues.served(queues.take())
    assert waited[:7] == [0, 32, 64, 128, 256, 384, 512]
    assert waited[7:] == [513, 528, 544]  # somebody was found, and others are looked for again


async def test_many_callers_are_waited_for_until_nobody_joins() -> None:
    queues = Queues()
    for _ in range(3):
        for _ in range(100):
            queues.add(Change(lambda _transaction: None))
        assert await _turns(queues) > 0
        queues.served(queues.take())
