"""A transaction in a file is begun on the event loop, which waits for nobody's lock."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from broker.store import migrate
from broker.store.database import WouldWait, open_database
from tests.support.world import opened


@contextmanager
def locked(path: str) -> Iterator[sqlite3.Connection]:
    """Let somebody else hold the file's one lock, for the time of a block at most."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


@pytest.fixture
def path(tmp_path: Path) -> str:
    path = str(tmp_path / "broker.db")
    migrate.upgrade(path)
    return path


def test_what_would_wait_is_not_begun_at_once(path: str) -> None:
    database = open_database(path).apart("writer")
    with pytest.raises(WouldWait):
        database.begin(at_once=True)  # the file is not open yet
    database.begin().close()
    with locked(path), pytest.raises(WouldWait):
        database.begin(at_once=True)
    with closing(database.begin(at_once=True)) as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() == 5_000  # whoever may wait still does
    database.close()


def test_nothing_is_begun_at_once_on_a_server(postgresql_with_schema: Callable[[], str]) -> None:
    database = open_database(postgresql_with_schema())
    database.begin().close()
    with pytest.raises(WouldWait):
        database.begin(at_once=True)
    database.close()


async def test_the_event_loop_goes_on_while_a_lock_is_waited_for(path: str) -> None:
    async with opened(path) as world:
        task = await world.task()
        with locked(path) as other:

            async def unlock() -> None:
                for _ in range(100):
                    await asyncio.sleep(0)
                other.execute("ROLLBACK")

            issued, _ = await asyncio.gather(world.issue(task), unlock())
        assert issued.token
