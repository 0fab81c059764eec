"""A PostgreSQL that is silent, paused or cut off: nobody waits for longer than callers do, and it passes by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from broker.lease import tasks
from broker.model.errors import Reason, Refusal
from broker.store import ledger, migrate
from broker.store.database import open_database
from tests.faults.proxy import Proxy
from tests.support.world import ORCHESTRATOR, World, opened

CALLERS_WAIT_SECONDS = 10  # as the SDK does, and on a busy machine we are late by some
BUSY_SECONDS = 10

pytestmark = pytest.mark.postgres


@dataclass
class Wired:
    """A database, and the wire to it."""

    url: str
    direct: str
    wire: Proxy


@pytest.fixture
def wired(new_postgresql_url: Callable[[], str]) -> Iterator[Wired]:
    direct = new_postgresql_url()
    migrate.upgrade(direct)
    server = make_url(direct)
    with Proxy(Path(str(server.query["host"])) / ".s.PGSQL.5432").running() as proxy:
        url = server.set(host="127.0.0.1", port=proxy.port, query={}).render_as_string(hide_password=False)
        yield Wired(url, direct, proxy)


async def refusal(world: World) -> Refusal:
    began = time.monotonic()
    with pytest.raises(Refusal) as refused:
        await world.task()
    assert time.monotonic() - began < CALLERS_WAIT_SECONDS + BUSY_SECONDS
    return refused.value


async def test_connections_that_died_without_a_word_are_made_anew_while_the_caller_waits(wired: Wired) -> None:
    async with opened(wired.url) as world:
        await world.task()
        await world.desk.database.read(ledger.head)
        wired.wire.lose_connections()
        began = time.monotonic()
        await world.task()
        await world.desk.database.read(ledger.head)
        assert time.monotonic() - began < CALLERS_WAIT_SECONDS + BUSY_SECONDS


async def test_a_server_that_does_not_answer_is_told_before_callers_give_up_and_passes(wired: Wired) -> None:
    async with opened(wired.url) as world:
        await world.task()
        wired.wire.block()
        assert (await refusal(world)).reason is Reason.LEDGER_UNAVAILABLE
        with pytest.raises(Refusal) as unread:
            await world.desk.database.read(ledger.head)
        assert unread.value.reason is Reason.LEDGER_UNAVAILABLE
        wired.wire.heal()
        await world.task()


async def test_a_writer_that_the_server_does_not_answer_stops_all_the_same(wired: Wired) -> None:
    async with opened(wired.url) as world:
        await world.task()
        wired.wire.block()
        waiting = [asyncio.create_task(world.task()) for _ in range(3)]
        await asyncio.sleep(0.1)
        began = time.monotonic()
        await world.desk.ledger.stop()
        assert time.monotonic() - began < CALLERS_WAIT_SECONDS + BUSY_SECONDS
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(outcome, Refusal) for outcome in outcomes)
        wired.wire.heal()


async def test_who_holds_the_head_and_does_not_come_on_loses_it(wired: Wired) -> None:
    """A broker that was paused, or whose host has lost its power."""
    async with opened(wired.url) as world:
        await world.task()
        paused = open_database(wired.direct)
        holding = paused.begin()
        ledger.lock_head(holding)
        began = time.monotonic()
        await world.task()
        assert time.monotonic() - began < CALLERS_WAIT_SECONDS
        holding.invalidate()
        holding.close()
        paused.close()


async def test_a_commit_whose_answer_is_lost_is_told_as_unknown_and_asking_again_does_it_once(wired: Wired) -> None:
    async with opened(wired.url) as world:
        await world.task()
        wired.wire.cut_after(b"COMMIT")
        with pytest.raises(Refusal) as refused:
            await world.task(request_id="r1")
        assert refused.value.reason is Reason.LEDGER_UNAVAILABLE
        assert "not known" in refused.value.message
        assert "nothing was done" not in refused.value.message
        assert "request_id" in refused.value.hints.next
        again = await world.task(request_id="r1")
        listed = await tasks.page(world.desk, ORCHESTRATOR, None, None, 10)
        assert [task.id for task in listed].count(again.id) == 1
        assert len(listed) == 2


async def test_a_commit_that_the_server_has_refused_is_told_as_not_done(wired: Wired) -> None:
    """The session is ended for having been idle with the head in its hands: a broker that was paused."""
    engine = create_engine(wired.direct, isolation_level="AUTOCOMMIT")
    async with opened(wired.url) as world:
        await world.task()
        with engine.connect() as connection:
            connection.execute(text("ALTER TABLE tasks RENAME TO elsewhere"))
        assert "nothing was done" in (await refusal(world)).message
        with engine.connect() as connection:
            connection.execute(text("ALTER TABLE elsewhere RENAME TO tasks"))
    engine.dispose()
