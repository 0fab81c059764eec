"""On a full disk, what takes away is recorded with the room that was kept for it, and nothing else is."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event
from structlog.testing import capture_logs

from broker.lease.token import Issued
from broker.model.errors import Reason, Refusal
from broker.model.selector import Selector, Target
from broker.model.task import Task
from broker.store import failures, migrate, verification
from broker.store.database import open_database
from broker.store.reserve import Reserve, free_bytes
from broker.store.turns import Turns
from tests.support.file_limit import no_file_beyond
from tests.support.waiting import wait_for
from tests.support.world import World, opened

RESERVED = 64  # pages
FEW_BYTES = 8 * 4_120  # of the log: pages for some attempts, and for no change


@dataclass
class Disk:
    """A disk with room, or without."""

    is_full: bool = False

    def free(self, folder: Path) -> int:
        return 0 if self.is_full else free_bytes(folder)


@contextmanager
def full(disk: Disk, world: World, reserve: Path) -> Iterator[None]:
    """Let SQLite find that there is no room for another page; for some, once the reserve is gone."""

    def limit(connection: Any, _record: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        room = 0 if reserve.exists() else RESERVED
        connection.execute(f"PRAGMA max_page_count = {pages + room}")

    event.listen(Engine, "connect", limit)
    disk.is_full = True
    connect_anew(world)
    try:
        yield
    finally:
        event.remove(Engine, "connect", limit)
        disk.is_full = False
        connect_anew(world)


def connect_anew(world: World) -> None:
    world.desk.ledger._committer.let_go()
    world.desk.ledger._database.engine.dispose()


async def fill(world: World, task: Task) -> Refusal:
    """Issue until there is no room."""
    for _ in range(1_000):
        try:
            await world.issue(task, explanation="x" * 500)
        except Refusal as refusal:
            return refusal
    raise AssertionError("the disk does not fill")


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'broker.db'}"
    migrate.upgrade(url)
    return url


async def test_on_a_full_disk_what_takes_away_is_recorded_and_nothing_else_until_there_is_room(
    url: str, tmp_path: Path
) -> None:
    file, disk = tmp_path / "broker.db.reserve", Disk()
    reserve = Reserve.beside(open_database(url), disk.free)
    size = file.stat().st_size
    async with opened(url, reserve=reserve) as world:
        tasks = [await world.task() for _ in range(3)]
        held: list[Issued] = [await world.issue(tasks[0]) for _ in range(5)]
        with full(disk, world, file):
            refused = await fill(world, tasks[1])
            assert refused.reason is Reason.LEDGER_UNAVAILABLE
            assert file.exists(), "it is not for those who want more"
            for issued in held[1:]:
                await world.revoke(Selector("acme", Target.LEASE, issued.lease.id))
            assert not file.exists()
            await world.lock(Selector("acme", Target.TASK, tasks[2].id))
            for more in (world.issue(tasks[1]), world.task(), world.renew(held[0])):
                with pytest.raises(Refusal) as unwanted:
                    await more
                assert unwanted.value.reason is Reason.LEDGER_UNAVAILABLE
            await world.end(tasks[0])
        await world.issue(tasks[1])
        assert file.stat().st_size == size
    assert {rule.selector.value for rule in world.rules} == {tasks[0].id, *(item.lease.id for item in held[1:])}
    assert verification.verify(url).ok


@asynccontextmanager
async def little_room(world: World, room: int) -> AsyncIterator[None]:
    """Let the log grow no further than so many bytes for the time of a block, and the broker look how it is."""
    log = Path(str(world.desk.database.engine.url.database) + "-wal")
    probing = asyncio.create_task(world.desk.ledger.probe())
    with world.desk.database.engine.connect() as reader:
        reader.exec_driver_sql("SELECT 1 FROM ledger_head")  # as long as one is there the log is not begun anew
        with no_file_beyond(log.stat().st_size + room):
            yield
    await asyncio.to_thread(wait_for, lambda: world.desk.ledger.problem() is None)
    probing.cancel()


async def test_a_full_disk_is_found_out_though_nobody_asks_for_anything(url: str) -> None:
    async with opened(url) as world:
        await world.task()
        async with little_room(world, 0):
            await asyncio.to_thread(wait_for, lambda: world.desk.ledger.problem() is not None)


async def test_all_is_not_well_where_an_attempt_finds_room_and_no_change_does(url: str) -> None:
    async with opened(url) as world:
        task = await world.task()
        with capture_logs() as logs:
            async with little_room(world, FEW_BYTES):
                with pytest.raises(Refusal):
                    await world.issue(task)
                async with asyncio.timeout(60):
                    while [log["event"] for log in logs].count("ledger.unavailable") < 2:
                        assert world.desk.ledger.problem() is not None
                        await asyncio.sleep(0.02)
        await world.issue(task)


async def test_a_reserve_that_is_too_small_grows_at_the_next_start(url: str, tmp_path: Path) -> None:
    file = tmp_path / "broker.db.reserve"
    file.write_bytes(b"")
    Reserve.beside(open_database(url))
    assert file.stat().st_size > 1_000_000


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE])
def test_what_may_be_for_lack_of_room_is_told_as_such(code: int) -> None:
    failure = sqlite3.OperationalError("disk I/O error")
    failure.sqlite_errorcode = code
    assert "is there room on its disk" in failures.cause(failure)
    assert "room" not in failures.cause(sqlite3.OperationalError("no such table: tasks"))


def test_of_those_that_share_a_reserve_any_gives_it_up_for_all(url: str) -> None:
    disk, no_room = Disk(), sqlite3.OperationalError("database or disk is full")
    no_room.sqlite_errorcode = sqlite3.SQLITE_FULL
    database = open_database(url, turns=Turns())
    one, other = Reserve.beside(database, disk.free), Reserve.beside(database, disk.free)
    assert not one.is_spent
    disk.is_full = True
    assert one.give_up(no_room)
    assert other.is_spent
    assert not other.regain(database)
    disk.is_full = False
    assert other.regain(database)
    assert not one.is_spent
    database.close()
