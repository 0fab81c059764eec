"""Opening a database: SQLite in a file, or PostgreSQL by URL. The code above this module is the same for both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, event, make_url
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DBAPIError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from broker.model.errors import CannotStart, Refusal
from broker.store import postgresql, sqlite
from broker.store.failures import Undecided, cause, commit, unavailable, undecided
from broker.store.turns import Turns

T = TypeVar("T")

UNAVAILABLE = (
    OperationalError,  # away, locked, full, on a disk that fails, damaged
    InternalError,  # read-only, a transaction that took too long
    InterfaceError,  # a connection that is no more
    ProgrammingError,  # a table or a column is missing, or not ours to use
    NotSupportedError,
    PoolTimeout,  # others have all connections
)
"""How it shows that the database cannot be used now, to readers and writers alike: it may be well again later. The
other classes of a driver, IntegrityError and DataError, say that what was asked cannot be: the fault is ours."""

_POOL_SECONDS = 5
_READERS = 8


def _readers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_READERS, thread_name_prefix="readers")


@dataclass(frozen=True, slots=True)
class Database:
    """An open database. Each operation takes a connection of its own, and waits for it in one of `threads`.

    Where other processes write to the same file, each takes its `turns`.
    """

    engine: Engine
    threads: ThreadPoolExecutor = field(default_factory=_readers)
    at_leisure: bool = False
    turns: Turns | None = None

    def apart(self, name: str, url: URL | None = None) -> Database:
        """Open the database, or a file beside it, with one connection and one thread: for what must wait for nobody."""
        engine = _engine(url or self.engine.url, 1, at_leisure=self.at_leisure)
        turns = self.turns if url is None else None
        return Database(engine, ThreadPoolExecutor(1, thread_name_prefix=name), self.at_leisure, turns)

    @property
    def is_remote(self) -> bool:
        """Report whether a server holds it, which may keep us waiting or be away, and not a file of this machine."""
        return self.engine.dialect.name == "postgresql"

    @property
    def is_shared(self) -> bool:
        """Report whether other processes may be writing to it: what we know of it is old when we look again."""
        return self.is_remote or self.turns is not None

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run a query in a worker thread, in one read transaction.

        Raises:
            Refusal: LEDGER_UNAVAILABLE, if the database cannot be reached.
        """
        return await self.run(partial(self.read_now, query))

    async def glance(self, query: Callable[[Connection], T]) -> T:
        """Run a query by primary keys, else as `read`; on a file in this thread, which is over sooner than a hop."""
        return await self.read(query) if self.is_remote else self.read_now(query)

    async def run(self, step: Callable[[], T]) -> T:
        """Run something that may wait for the database in one of its threads."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()
        self.threads.submit(_run, step, loop, outcome)
        return await outcome

    def read_now(self, query: Callable[[Connection], T]) -> T:
        """Run a query in this thread; else as `read`."""
        try:
            with using(self._begin("BEGIN", postgresql.BEGIN_READ)) as connection:
                return query(connection)
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

    def begin(self, kept: Connection | None = None) -> Connection:
        """Begin a write transaction. Closing the connection undoes what is not committed, and ends our turn.

        Over a connection to a file that was `kept`, nobody is waited for.

        Raises:
            WouldWait: somebody else has the file's one lock, or the turn; the connection is closed.
        """
        if kept is not None:
            if self.turns is not None and not self.turns.take_at_once():
                kept.close()
                raise sqlite.WouldWait
            return _begun_at_once(kept)
        if self.turns is None:
            return self._begin("BEGIN IMMEDIATE", "BEGIN" if self.at_leisure else postgresql.BEGIN_WRITE)
        self.turns.take()
        try:
            connection = self._begin("BEGIN IMMEDIATE", "BEGIN")
        except BaseException:
            self.turns.leave()
            raise
        sqlite.when_closed(connection, self.turns.leave)
        return connection

    async def wait_for_turn(self) -> None:
        """Wait until it is our turn, where others write as well: that of the next transaction, or of `leave_turn`."""
        if self.turns is not None and not self.turns.take_at_once():
            await self.run(self.turns.take)

    def leave_turn(self) -> None:
        """Give the turn back, if we have one; whoever closes a connection that has written does so as well."""
        if self.turns is not None:
            self.turns.leave()

    def _begin(self, sqlite: str, server: str) -> Connection:
        """Begin by hand: both drivers are in autocommit mode. A connection that has died meanwhile is no failure."""
        try:
            return self._begun(server if self.is_remote else sqlite)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
        return self._begun(server if self.is_remote else sqlite)

    def _begun(self, statement: str) -> Connection:
        connection = self.engine.connect()
        if not self.is_remote:
            sqlite.refuse_other_file(connection)
        try:
            connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
        except BaseException:
            connection.invalidate()
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close all connections: those in use, or made just now, as soon as they are given back."""
        self.threads.shutdown(wait=False)  # what waits for a thread still gets one: somebody may await it
        self.engine.pool.dispose()


class _Pool(QueuePool):
    """Keeps connections until it is closed, and then none: one that nobody closes would stay open for a while."""

    _is_closed = False

    def dispose(self) -> None:
        self._is_closed = True
        super().dispose()

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        super()._do_return_conn(record)
        if self._is_closed:
            super().dispose()


def _run(step: Callable[[], T], loop: asyncio.AbstractEventLoop, outcome: asyncio.Future[T]) -> None:
    """Run a step in this thread, for who waits in the loop's: `run_in_executor` has three futures pass it on."""
    if outcome.cancelled():
        return
    try:
        result = step()
    except BaseException as error:  # noqa: BLE001 (it is for who waits)
        _tell(loop, partial(_fail, outcome, error))
    else:
        _tell(loop, partial(_succeed, outcome, result))


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop is closed, and nobody waits
        loop.call_soon_threadsafe(what)


def _succeed(outcome: asyncio.Future[T], result: T) -> None:
    if not outcome.done():
        outcome.set_result(result)


def _fail(outcome: asyncio.Future[T], error: BaseException) -> None:
    if not outcome.done():
        outcome.set_exception(error)


def _begun_at_once(kept: Connection) -> Connection:
    sqlite.refuse_other_file(kept)
    try:
        sqlite.begin_at_once(kept)
    except BaseException:
        kept.invalidate()
        kept.close()
        raise
    return kept


@contextmanager
def using(connection: Connection) -> Iterator[Connection]:
    """Use a connection, and close it. One that has failed is not used again: what is wrong may be wrong for ever."""
    with connection:
        try:
            yield connection
        except (*UNAVAILABLE, Undecided):
            connection.invalidate()
            raise


def refusal_of(error: Exception) -> Refusal | None:
    """Return what a failure means to whoever asked for a change; None if the database is not to blame."""
    if isinstance(error, Undecided):
        return undecided()
    if isinstance(error, UNAVAILABLE):
        return unavailable("the ledger cannot be reached or written, so nothing was done")
    return None


class DatabaseProblem(CannotStart):
    """A database cannot be used. The message says why, without statement and parameters."""


@contextmanager
def plain_problems() -> Iterator[None]:
    """Raise what the driver says as a DatabaseProblem: for tools that talk to people."""
    try:
        yield
    except (*UNAVAILABLE, Undecided) as error:
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
    except (ArgumentError, ValueError) as error:  # ValueError: a port that is no number
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


def open_database(url: str, *, at_leisure: bool = False, turns: Turns | None = None) -> Database:
    """Open a database by URL or path. Nothing is read yet, so this succeeds without a server.

    `at_leisure` is for tools: a statement may take as long as it takes. `turns` are for processes that share a file.
    """
    return Database(_engine(parse_url(url), _READERS, at_leisure=at_leisure), at_leisure=at_leisure, turns=turns)


def _engine(url: URL, connections: int, *, at_leisure: bool) -> Engine:
    # Parameters hold what callers wrote, and failures are logged.
    options = {"hide_parameters": True, "pool_timeout": _POOL_SECONDS, "poolclass": _Pool}
    if url.get_backend_name() == "postgresql":
        engine = postgresql.engine(url, connections, at_leisure=at_leisure, **options)
    else:
        engine = sqlite.engine(url, connections, **options)
    event.listen(engine, "handle_error", _classify, retval=True)
    # One statement for many rows: one round trip, or one release of the interpreter's lock, per batch and not per row.
    engine.dialect.use_insertmanyvalues_wo_returning = True
    return engine


def _classify(context: ExceptionContext) -> Exception | None:
    """Let what a driver has no class for, such as a damaged file, be an OperationalError."""
    if type(context.sqlalchemy_exception) not in (DBAPIError, DatabaseError):
        return None
    return OperationalError(context.statement, None, context.original_exception, hide_parameters=True)
