"""Opening a database: SQLite in a file, or PostgreSQL by URL. The code above this module is the same for both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError

from broker.model.errors import Hints, Reason, Refusal

T = TypeVar("T")

_SQLITE_BUSY_MS = 5_000
_POSTGRESQL_OPTIONS = "-c statement_timeout=15000 -c lock_timeout=10000 -c idle_in_transaction_session_timeout=20000"


@dataclass(frozen=True, slots=True)
class Database:
    """An open database. Threads share it; each operation takes a connection of its own."""

    engine: Engine

    @property
    def is_shared(self) -> bool:
        """Tell whether other brokers may be writing to it: PostgreSQL yes, a SQLite file no."""
        return self.engine.dialect.name == "postgresql"

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run a query in a worker thread, in one read transaction.

        Raises:
            Refusal: LEDGER_UNAVAILABLE, if the database cannot be reached.
        """
        return await asyncio.to_thread(self.read_now, query)

    def read_now(self, query: Callable[[Connection], T]) -> T:
        """Run a query in this thread; else as `read`."""
        try:
            with self._begin(self.engine, "BEGIN") as connection:
                return query(connection)
        except (OperationalError, InterfaceError) as error:
            raise unavailable(error) from error

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Open a read transaction that sees one state throughout, whatever is written meanwhile."""
        engine = self.engine.execution_options(isolation_level="REPEATABLE READ") if self.is_shared else self.engine
        with self._begin(engine, "BEGIN") as connection:
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Open a write transaction: durable when the block is over, and nothing if it raises.

        SQLite takes its one lock at once, so that no transaction fails half way on the upgrade of a lock.
        """
        with self.begin() as connection:
            yield connection
            connection.commit()

    def begin(self) -> Connection:
        """Begin a write transaction. Closing the connection undoes what is not committed."""
        return self._begin(self.engine, "BEGIN IMMEDIATE")

    def _begin(self, engine: Engine, sqlite_begin: str) -> Connection:
        connection = engine.connect()
        if not self.is_shared:  # pysqlite is in autocommit mode: its own ways to begin come too late
            try:
                connection.exec_driver_sql(sqlite_begin)
            except BaseException:
                connection.close()
                raise
        return connection

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def unavailable(error: DBAPIError) -> Refusal:
    """Turn a database failure into the refusal that callers see. The details are for the log alone."""
    del error
    return Refusal(
        Reason.LEDGER_UNAVAILABLE,
        "the ledger cannot be reached or written, so nothing was done",
        Hints(next="try again in a moment; operators: see the broker's log and the database"),
    )


class DatabaseProblem(Exception):
    """A database cannot be used. The message says why, without statement and parameters."""


@contextmanager
def plain_problems() -> Iterator[None]:
    """Give what the driver says as a DatabaseProblem: for tools that talk to people."""
    try:
        yield
    except DBAPIError as error:
        raise DatabaseProblem(f"the database says: {str(error.orig).partition(chr(10))[0]}") from error


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
    parsed = parse_url(url)
    if parsed.get_backend_name() == "postgresql":
        # The options bound how long a stuck server or a lock can hold the writer up.
        engine = create_engine(
            parsed,
            hide_parameters=True,  # they hold what callers wrote, and failures are logged
            pool_size=5,
            max_overflow=5,
            pool_pre_ping=True,
            pool_timeout=5,
            connect_args={"connect_timeout": 5, "options": _POSTGRESQL_OPTIONS},
        )
    else:
        engine = create_engine(parsed, hide_parameters=True, connect_args={"timeout": _SQLITE_BUSY_MS / 1000})
        event.listen(engine, "connect", _prepare_sqlite)
    # One statement for many rows: one round trip, or one release of the interpreter's lock, per batch and not per row.
    engine.dialect.use_insertmanyvalues_wo_returning = True
    return Database(engine)


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
