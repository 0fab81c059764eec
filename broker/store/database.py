"""Opening a database: SQLite in a file, or PostgreSQL by URL. The code above this module is the same for both."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from broker.store.failures import MISUSED, UNAVAILABLE, cause, commit, unavailable, using

T = TypeVar("T")

_SQLITE_BUSY_MS = 5_000
_POSTGRESQL_OPTIONS = "-c statement_timeout=15000 -c lock_timeout=10000 -c idle_in_transaction_session_timeout=20000"


_POOL_SECONDS = 5
_IN_MEMORY = ":memory:"
_READERS = 8


def _readers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_READERS, thread_name_prefix="readers")


@dataclass(frozen=True, slots=True)
class Database:
    """An open database. Each operation takes a connection of its own, and waits for it in one of `threads`."""

    engine: Engine
    threads: ThreadPoolExecutor = field(default_factory=_readers)

    def apart(self, name: str) -> Database:
        """Open the database once more, with one connection and one thread: for what must not wait behind others."""
        return Database(_engine(self.engine.url, 1), ThreadPoolExecutor(1, thread_name_prefix=name))

    @property
    def is_shared(self) -> bool:
        """Tell whether other brokers may be writing to it: PostgreSQL yes, a SQLite file no."""
        return self.engine.dialect.name == "postgresql"

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run a query in a worker thread, in one read transaction.

        Raises:
            Refusal: LEDGER_UNAVAILABLE, if the database cannot be reached.
        """
        return await self.run(partial(self.read_now, query))

    async def glance(self, query: Callable[[Connection], T]) -> T:
        """Run a query by primary keys, else as `read`; on a file in this thread, which is over sooner than a hop."""
        return await self.read(query) if self.is_shared else self.read_now(query)

    async def run(self, step: Callable[[], T]) -> T:
        """Run something that may wait for the database in one of its threads."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, step)

    def read_now(self, query: Callable[[Connection], T]) -> T:
        """Run a query in this thread; else as `read`."""
        try:
            with using(self._begin(self.engine, "BEGIN")) as connection:
                return query(connection)
        except MISUSED:
            raise
        except UNAVAILABLE as error:
            raise unavailable("the ledger cannot be read") from error

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Open a read transaction that sees one state throughout, whatever is written meanwhile."""
        engine = self.engine.execution_options(isolation_level="REPEATABLE READ") if self.is_shared else self.engine
        with using(self._begin(engine, "BEGIN")) as connection:
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Open a write transaction: durable when the block is over, and nothing if it raises.

        SQLite takes its one lock at once, so that no transaction fails half way on the upgrade of a lock.
        """
        with using(self.begin()) as connection:
            yield connection
            commit(connection)

    def begin(self) -> Connection:
        """Begin a write transaction. Closing the connection undoes what is not committed."""
        return self._begin(self.engine, "BEGIN IMMEDIATE")

    def _begin(self, engine: Engine, sqlite_begin: str) -> Connection:
        connection = engine.connect()
        if not self.is_shared:  # pysqlite is in autocommit mode: its own ways to begin come too late
            _refuse_other_file(connection)
            try:
                connection.exec_driver_sql(sqlite_begin)
            except BaseException:
                connection.invalidate()
                connection.close()
                raise
        return connection

    def close(self) -> None:
        """Close all connections."""
        self.threads.shutdown(wait=False, cancel_futures=True)
        self.engine.dispose()


class DatabaseProblem(Exception):
    """A database cannot be used. The message says why, without statement and parameters."""


@contextmanager
def plain_problems() -> Iterator[None]:
    """Give what the driver says as a DatabaseProblem: for tools that talk to people."""
    try:
        yield
    except UNAVAILABLE as error:
        raise DatabaseProblem(f"the database says: {cause(error)}") from error


def parse_url(url: str) -> URL:
    """Parse a database URL, or take a bare path for a SQLite file.

    Raises:
        ValueError: it is neither SQLite nor PostgreSQL.
    """
    if "://" not in url:
        return URL.create("sqlite+pysqlite", database=str(Path(url)))
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        msg = "the database URL is malformed; write sqlite:///PATH or postgresql://USER@HOST/NAME"
        raise ValueError(msg) from error
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        return parsed.set(drivername="sqlite+pysqlite")
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    msg = f"the database is `{backend}`; use sqlite:///PATH or postgresql://USER@HOST/NAME"
    raise ValueError(msg)


def open_database(url: str) -> Database:
    """Open a database by URL or path. Nothing is read yet, so this succeeds without a server."""
    return Database(_engine(parse_url(url), _READERS))


def _engine(url: URL, connections: int) -> Engine:
    if url.get_backend_name() == "postgresql":
        # The options bound how long a stuck server or a lock can hold the writer up.
        arguments = {"connect_timeout": 5, "options": _POSTGRESQL_OPTIONS}
    else:
        arguments = {"timeout": _SQLITE_BUSY_MS / 1000}
    engine = create_engine(
        url,
        hide_parameters=True,  # they hold what callers wrote, and failures are logged
        pool_size=connections,
        max_overflow=0,
        pool_pre_ping=url.get_backend_name() == "postgresql",
        pool_timeout=_POOL_SECONDS,
        connect_args=arguments,
    )
    if url.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "connect", partial(_note_file, url.database))
        event.listen(engine, "do_connect", partial(_make_no_file_again, url.database, []))
    # One statement for many rows: one round trip, or one release of the interpreter's lock, per batch and not per row.
    engine.dialect.use_insertmanyvalues_wo_returning = True
    return engine


def _prepare_sqlite(dbapi_connection, _record) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 (SQLAlchemy's hook)
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


def _refuse_other_file(connection: Connection) -> None:
    """Refuse to go on in a file that was deleted or replaced: nobody would find what is written there."""
    path = connection.info["path"]
    found = _identity(path)
    if found == connection.info["file"]:
        return
    connection.close()
    problem = sqlite3.OperationalError(
        f"{path} is {'gone' if found is None else 'another file'} since it was opened: put the one "
        "that was there back, or stop the broker and go on as docs/how-to/restore-a-backup.md says"
    )
    raise OperationalError(None, None, problem)


def _identity(path: str | None) -> tuple[int, int] | None:
    """Tell which file has a name; None, if there is none."""
    try:
        found = os.stat(path or _IN_MEMORY)  # noqa: PTH116 (twice a request: a Path costs more than the call)
    except OSError:
        return None
    return found.st_dev, found.st_ino
