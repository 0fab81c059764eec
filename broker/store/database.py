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
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from broker.model.errors import CannotStart
from broker.store import postgresql
from broker.store.failures import MISUSED, UNAVAILABLE, cause, commit, unavailable, using

T = TypeVar("T")

_SQLITE_BUSY_MS = 5_000
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
    at_leisure: bool = False

    def apart(self, name: str) -> Database:
        """Open the database once more, with one connection and one thread: for what must not wait behind others."""
        engine = _engine(self.engine.url, 1, at_leisure=self.at_leisure)
        return Database(engine, ThreadPoolExecutor(1, thread_name_prefix=name), self.at_leisure)

    @property
    def is_shared(self) -> bool:
        """Report whether other brokers may be writing to it: PostgreSQL yes, a SQLite file no."""
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
            with using(self._begin("BEGIN", postgresql.BEGIN_READ)) as connection:
                return query(connection)
        except MISUSED:
            raise
        except UNAVAILABLE as error:
            raise unavailable("the ledger cannot be read") from error

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Open a read transaction that sees one state throughout, whatever is written meanwhile."""
        with using(self._begin("BEGIN", postgresql.BEGIN_SNAPSHOT)) as connection:
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
        return self._begin("BEGIN IMMEDIATE", "BEGIN" if self.at_leisure else postgresql.BEGIN_WRITE)

    def _begin(self, sqlite: str, server: str) -> Connection:
        """Begin by hand: both drivers are in autocommit mode. A connection that has died meanwhile is no failure."""
        try:
            return self._begun(server if self.is_shared else sqlite)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
        return self._begun(server if self.is_shared else sqlite)

    def _begun(self, statement: str) -> Connection:
        connection = self.engine.connect()
        if not self.is_shared:
            _refuse_other_file(connection)
        try:
            connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
        except BaseException:
            connection.invalidate()
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close all connections."""
        self.threads.shutdown(wait=False, cancel_futures=True)
        self.engine.dispose()


class DatabaseProblem(CannotStart):
    """A database cannot be used. The message says why, without statement and parameters."""


@contextmanager
def plain_problems() -> Iterator[None]:
    """Return what the driver says as a DatabaseProblem: for tools that talk to people."""
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


def shown_url(text: str) -> str:
    """Return a database's URL as people write it, its password hidden."""
    url = parse_url(text)
    return url.set(drivername=url.get_backend_name()).render_as_string(hide_password=True)


def open_database(url: str, *, at_leisure: bool = False) -> Database:
    """Open a database by URL or path. Nothing is read yet, so this succeeds without a server.

    `at_leisure` is for tools: a statement may take as long as it takes.
    """
    return Database(_engine(parse_url(url), _READERS, at_leisure=at_leisure), at_leisure=at_leisure)


def _engine(url: URL, connections: int, *, at_leisure: bool) -> Engine:
    # Parameters hold what callers wrote, and failures are logged.
    options = {"hide_parameters": True, "pool_timeout": _POOL_SECONDS}
    if url.get_backend_name() == "postgresql":
        engine = postgresql.engine(url, connections, at_leisure=at_leisure, **options)
    else:
        waits = {"timeout": _SQLITE_BUSY_MS / 1000}
        engine = create_engine(url, pool_size=connections, max_overflow=0, connect_args=waits, **options)
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
    """Report which file has a name; None, if there is none."""
    try:
        found = os.stat(path or _IN_MEMORY)  # noqa: PTH116 (twice a request: a Path costs more than the call)
    except OSError:
        return None
    return found.st_dev, found.st_ino
