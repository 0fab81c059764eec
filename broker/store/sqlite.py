"""SQLite as we use it: in one file, durable when a commit returns, and never in another file than the one opened."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from functools import partial

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

_BUSY_SECONDS = 5.0
_WAIT = f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1_000:.0f}"
_IN_MEMORY = ":memory:"
_WHEN_CLOSED = "when closed"


def engine(url: URL, connections: int, **options: object) -> Engine:
    """Make an engine with so many connections."""
    made = create_engine(url, pool_size=connections, max_overflow=0, connect_args={"timeout": _BUSY_SECONDS}, **options)
    event.listen(made, "connect", _prepare)
    event.listen(made, "connect", partial(_note_file, url.database))
    event.listen(made, "checkin", _do_what_waits)
    event.listen(made, "do_connect", partial(_make_no_file_again, url.database, []))
    return made


class WouldWait(Exception):
    """A transaction cannot be begun without waiting for somebody."""


def begin_at_once(connection: Connection) -> None:
    """Begin a write transaction.

    Raises:
        WouldWait: somebody else has the one lock.
    """
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)  # noqa: S101 (it is no other's)
    driver.execute("PRAGMA busy_timeout = 0")
    try:
        driver.execute("BEGIN IMMEDIATE")
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF == sqlite3.SQLITE_BUSY:
            raise WouldWait from error
        raise named(error) from error
    finally:
        driver.execute(_WAIT)
    connection.begin()  # SQLAlchemy is to know of it


def named(error: sqlite3.Error) -> Exception:
    """Return a failure of the driver as SQLAlchemy would name it, without statement and parameters."""
    known = DBAPIError.instance(None, None, error, sqlite3.Error, hide_parameters=True)
    if type(known) in (DBAPIError, DatabaseError):  # for which the driver has no class, such as a damaged file
        return OperationalError(None, None, error, hide_parameters=True)
    assert isinstance(known, Exception)  # noqa: S101 (as the error is)
    return known


def _prepare(dbapi_connection, _record) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 (SQLAlchemy's hook)
    """Set a fresh SQLite connection up: WAL, and an fsync before COMMIT returns."""
    dbapi_connection.isolation_level = None  # transactions are begun by `Database`
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        "cache_size = -4096",
        "wal_autocheckpoint = 8000",
    ):
        dbapi_connection.execute(f"PRAGMA {pragma}")


def _note_file(path: str | None, _dbapi_connection: object, record: ConnectionPoolEntry) -> None:
    """Remember which file a connection is to: the one that has this name now, whichever will have it later."""
    record.info["file"] = _identity(path)
    record.info["path"] = path


def _make_no_file_again(path: str | None, seen: list[str], *_how: object) -> None:
    """Let SQLite make a file the first time alone: one that is gone later was deleted."""
    if seen and _identity(path) is None:
        raise sqlite3.OperationalError(f"{path} is gone")
    seen[:] = [path] if path and path != _IN_MEMORY else []


def when_closed(connection: Connection, step: Callable[[], None]) -> None:
    """Have a step done once a connection is given back, however that comes about: its transaction is over then."""
    connection.info[_WHEN_CLOSED] = step


def _do_what_waits(_dbapi_connection: object, record: ConnectionPoolEntry) -> None:
    step = record.info.pop(_WHEN_CLOSED, None)
    if step is not None:
        step()


def refuse_other_file(connection: Connection) -> None:
    """Refuse to go on in a file that was deleted or replaced: nobody would find what is written there."""
    path = connection.info["path"]
    identity = _identity(path)
    if identity == connection.info["file"]:
        return
    connection.close()
    problem = sqlite3.OperationalError(
        f"{path} is {'gone' if identity is None else 'another file'} since it was opened: put the one "
        "that was there back, or stop the broker and go on as docs/how-to/restore-a-backup.md says"
    )
    raise OperationalError(None, None, problem)


def _identity(path: str | None) -> tuple[int, int] | None:
    """Report which file has a name; None, if there is none."""
    try:
        status = os.stat(path or _IN_MEMORY)  # noqa: PTH116 (twice a request: a Path costs more than the call)
    except OSError:
        return None
    return status.st_dev, status.st_ino
