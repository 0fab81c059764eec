"""PostgreSQL as we use it: nothing waits for longer than its callers do, and a pooler may stand in between.

Transactions are begun by hand, in one message with the bounds that hold for them, so that a session needs no state of
its own: a pooler like PgBouncer may give each transaction another session.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL

_CONNECT_SECONDS = 3
_BEGIN_SECONDS = 2.0  # there is nothing to do for it: a server that has not answered by then has lost the connection
_ANSWER_SECONDS = 7.0  # a server bounds statements itself: if it has not answered by then, it will not
_READ_MS = 6_000
_WRITE_MS = 5_000
_LOCK_MS = 4_000  # in the queue behind the ledger's head
_IDLE_MS = 2_000  # for which a broker that is paused, or cut off, may hold the head

BEGIN_READ = f"BEGIN READ ONLY; SET LOCAL statement_timeout = {_READ_MS}"
BEGIN_WRITE = (
    f"BEGIN; SET LOCAL statement_timeout = {_WRITE_MS}; SET LOCAL lock_timeout = {_LOCK_MS};"
    f" SET LOCAL idle_in_transaction_session_timeout = {_IDLE_MS}"
)
BEGIN_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

_CONNECTING: Mapping[str, object] = MappingProxyType(
    {
        "autocommit": True,
        "connect_timeout": _CONNECT_SECONDS,
        "target_session_attrs": "read-write",  # a standby may not know yet what was revoked
        "keepalives_idle": 2,
        "keepalives_interval": 1,
        "keepalives_count": 3,
        "tcp_user_timeout": 5_000,
    }
)


def engine(url: URL, connections: int, *, at_leisure: bool, **options: object) -> Engine:
    """Make an engine with so many connections. `at_leisure`: a statement may take as long as it takes."""
    made = create_engine(url, pool_size=connections, max_overflow=0, connect_args=dict(_CONNECTING), **options)
    kind: type[psycopg.Connection[Any]] = psycopg.Connection if at_leisure else _Impatient

    @event.listens_for(made, "do_connect")
    def _connect(_dialect: object, _record: object, arguments: list[str], named: dict[str, Any]) -> object:
        connection = kind.connect(*arguments, **named)
        try:
            if _is_pooled(connection):
                connection.prepare_threshold = None  # what is prepared stays with a session, which others get next
        except BaseException:
            connection.close()
            raise
        return connection

    return made


class _Impatient(psycopg.Connection[Any]):
    """A connection that gives up a server that is silent: one may be dead behind an address that lives."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:  # noqa: ANN401 (psycopg's)
        """Wait as psycopg does, but for so long only."""
        if timeout is None:
            begins = self.pgconn.transaction_status == TransactionStatus.IDLE
            timeout = _BEGIN_SECONDS if begins else _ANSWER_SECONDS
        try:
            return super().wait(gen, interval, timeout)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.close()  # the answer may still come, and would be taken for that to the next question
            raise


def _is_pooled(connection: psycopg.Connection[Any]) -> bool:
    """Report whether a pooler stands in between: the connection names another process than its session's."""
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    return row is None or row[0] != connection.info.backend_pid
