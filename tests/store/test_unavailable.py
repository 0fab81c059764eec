"""A database that cannot be used for a while: whatever shows it, it means the same to all, and is over when it is."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.exc import DataError, IntegrityError

from broker.model.errors import Reason, Refusal
from broker.model.selector import Selector, Target
from broker.revocation.feed import FRESHNESS, Feed
from broker.store import ledger
from broker.store.database import UNAVAILABLE
from tests.support.fakes import eventually
from tests.support.feed import VERIFIER, new_feed, published, running
from tests.support.outages import failing
from tests.support.world import World, opened

LONG = 60.0  # seconds: however busy the machine is


@asynccontextmanager
async def fed(url: str) -> AsyncIterator[tuple[World, Feed, asyncio.Task[None]]]:
    async with opened(url) as world:
        feed = new_feed(world)
        async with running(feed) as task:
            yield world, feed, task


async def reason_of_a_read(world: World) -> Reason:
    with pytest.raises(Refusal) as refused:
        await world.desk.database.read(ledger.head)
    return refused.value.reason


async def reason_of_a_write(world: World) -> Reason:
    with pytest.raises(Refusal) as refused:
        await world.task()
    return refused.value.reason


@pytest.mark.parametrize("kind", UNAVAILABLE)
async def test_a_database_that_answers_again_is_read_written_and_followed_again(
    database_url: str, kind: type[Exception]
) -> None:
    async with fed(database_url) as (world, feed, run), asyncio.timeout(LONG):
        updates = feed.watch(VERIFIER, None)
        session = (await anext(updates)).session_id
        with failing(kind) as met:
            assert await reason_of_a_read(world) is Reason.LEDGER_UNAVAILABLE
            assert await reason_of_a_write(world) is Reason.LEDGER_UNAVAILABLE
            await asyncio.to_thread(met.wait, LONG)
        assert not run.done()
        rule = await world.revoke(Selector("acme", Target.ALL))
        await published(updates, rule)
        assert feed.confirm(VERIFIER, session, rule.index).total_seconds() > 0
        await updates.aclose()  # type: ignore[attr-defined]  # it is an async generator


async def test_readers_that_use_the_pool_up_hold_neither_writer_nor_feed_up(database_url: str) -> None:
    async with fed(database_url) as (world, feed, _), asyncio.timeout(LONG):
        updates = feed.watch(VERIFIER, None)
        await anext(updates)
        with ExitStack() as stack:
            for _reader in range(world.desk.database.engine.pool.size()):  # type: ignore[attr-defined]
                stack.enter_context(world.desk.database.engine.connect())
            rule = await world.revoke(Selector("acme", Target.ALL))
            await published(updates, rule)
            assert await reason_of_a_read(world) is Reason.LEDGER_UNAVAILABLE
        await world.desk.database.read(ledger.head)
        await updates.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [IntegrityError, DataError])
async def test_what_is_our_own_fault_ends_the_feed_and_nobody_is_kept_fresh(
    database_url: str, kind: type[Exception]
) -> None:
    async with fed(database_url) as (_, feed, run), asyncio.timeout(LONG):
        updates = feed.watch(VERIFIER, None)
        session = (await anext(updates)).session_id
        with failing(kind):
            await asyncio.wait([run])
        assert isinstance(run.exception(), kind)
        assert feed.problem() is not None
        with pytest.raises(Refusal) as unknown:
            feed.confirm(VERIFIER, session, 0)
        assert unknown.value.reason is Reason.FEED_SESSION_UNKNOWN
        with pytest.raises(Refusal) as closed:
            async for _update in updates:
                pass
        assert closed.value.reason is Reason.UNAVAILABLE


async def test_a_feed_whose_look_hangs_keeps_nobody_fresh_beyond_the_window(database_url: str) -> None:
    answer = threading.Event()

    def hang(*_arguments: object) -> None:
        if threading.current_thread().name.startswith("feed"):
            answer.wait(LONG)

    async with fed(database_url) as (_, feed, run), asyncio.timeout(LONG):
        updates = feed.watch(VERIFIER, None)
        session = (await anext(updates)).session_id
        event.listen(Engine, "before_cursor_execute", hang)
        hung = time.monotonic()
        try:
            await eventually(lambda: feed.problem() is not None, LONG)
            now, granted = time.monotonic(), feed.confirm(VERIFIER, session, 0)
            assert now + granted.total_seconds() <= hung + FRESHNESS.total_seconds()
            assert not run.done()
        finally:
            answer.set()
            event.remove(Engine, "before_cursor_execute", hang)
        await updates.aclose()  # type: ignore[attr-defined]
