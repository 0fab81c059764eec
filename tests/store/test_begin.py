"""A transaction in a file is begun on the event loop, which waits for nobody's lock."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from broker.store import migrate
from broker.store.database import open_database
from broker.store.sqlite import WouldWait
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


def test_over_a_kept_connection_nobody_is_waited_for(path: str) -> None:
    database = open_database(path).apart("writer")
    kept = database.begin()
    kept.commit()
    assert database.begin(kept) is kept
    kept.commit()
    assert kept.exec_driver_sql("PRAGMA busy_timeout").scalar_one() == 5_000  # whoever may wait still does
    kept.commit()
    with locked(path), pytest.raises(WouldWait):
        database.begin(kept)
    assert kept.closed
    database.begin().close()  # nothing of it is in the way
    database.close()


def test_nothing_is_kept_that_is_to_another_file(path: str) -> None:
    database = open_database(path).apart("writer")
    kept = database.begin()
    kept.commit()
    Path(path).unlink()
    with pytest.raises(OperationalError, match="gone"):
        database.begin(kept)
    assert kept.closed
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
