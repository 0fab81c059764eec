"""What is told of a database that fails: to callers, and to operators; and what a failed commit may have done."""

from __future__ import annotations

import sqlite3

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from broker.model.errors import Hints, Reason, Refusal

# The mark of a commit is the last thing that SQLite writes: if that failed, it is not there. (fsync is another matter.)
_SQLITE_UNDONE = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_READONLY)
# How PostgreSQL's codes begin: a constraint is violated, transactions cannot be in a row, one was idle for too long.
_POSTGRESQL_UNDONE = ("23", "40", "25P03")
_AGAIN = "try again in a moment; operators: see the broker's log and the database"
_SAME_AGAIN = "ask again with the same request_id, by which nothing is done twice; what ends or revokes may be repeated"


class Undecided(Exception):
    """A commit has failed in a way that does not tell whether it was done."""


def commit(connection: Connection) -> None:
    """Commit.

    Raises:
        Undecided: that failed, and may have been done nevertheless.
        DBAPIError: it was not done.
    """
    try:
        connection.commit()
    except DBAPIError as error:
        if _is_undone(error):
            raise
        raise Undecided(cause(error)) from error


def undecided() -> Refusal:
    """Make the refusal of those whose change was in a commit that may have been done."""
    message = "the ledger's database failed while it committed: it is not known whether this was done"
    return unavailable(message, _SAME_AGAIN)


def unavailable(message: str, following: str = _AGAIN) -> Refusal:
    """Make the refusal that callers see. The details are for the log alone."""
    return Refusal(Reason.LEDGER_UNAVAILABLE, message, Hints(next=following))


def full() -> Refusal:
    """Make the refusal of what is not urgent, for as long as the disk is full."""
    message = "the broker's disk is full, and what is left of it is for revocations, ends of tasks and locks"
    return unavailable(message, "try again later; operators: make room on the disk of the broker's database")


def is_full(error: BaseException) -> bool:
    """Report whether SQLite may have had no room on the disk, or none in a quota, which it calls an I/O error."""
    original = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(original, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


def cause(error: BaseException) -> str:
    """Name a failure in a line, without its SQL and parameters."""
    original = error.orig if isinstance(error, DBAPIError) else error
    line = str(original).partition("\n")[0]
    return f"{line}: is there room on its disk, and in the quota?" if is_full(error) else line


def _is_undone(error: BaseException) -> bool:
    """Report whether it is known that a COMMIT which failed like this has left nothing behind.

    That the connection was lost says nothing: the database may have committed before, and the answer got lost.
    """
    original = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(original, sqlite3.Error):
        return getattr(original, "sqlite_errorcode", None) in _SQLITE_UNDONE
    return str(getattr(original, "sqlstate", None) or "").startswith(_POSTGRESQL_UNDONE)
