"""SQL as the drivers take it, for what every issue reads and writes: anything more costs more than the SQL itself."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from itertools import chain
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, Table, delete, select, tuple_

from broker.store.sqlite import named

Forget = Callable[[Connection, datetime, int], int]
"""Deletes what has been of no use since before an instant, at most so many; reports how many."""

_PLACEHOLDERS = {"sqlite": "?", "postgresql": "%s"}


class Sql:
    """A statement in which `:name` stands for a value, of a type that the driver stores.

    On a file it is the driver's from here on: what SQLAlchemy does around a statement takes longer than the statement.
    """

    def __init__(self, text: str, *, for_server: str = "") -> None:
        """Write it down for both kinds of database; `for_server` is what a server is told besides."""
        self._for_file = text
        self._for_server = re.sub(r":(\w+)", r"%(\1)s", text + for_server)

    def run(self, connection: Connection, *rows: Mapping[str, object]) -> int:
        """Run it for each row of values; report how many rows of the table it has changed."""
        file = _file(connection)
        if file is None:
            return connection.exec_driver_sql(self._for_server, list(rows)).rowcount
        try:
            return file.executemany(self._for_file, rows).rowcount
        except sqlite3.Error as error:
            raise named(error) from error

    def row(self, connection: Connection) -> Sequence[Any] | None:
        """Return the row that it selects; None if there is none."""
        file = _file(connection)
        if file is None:
            return connection.exec_driver_sql(self._for_server).one_or_none()
        try:
            row: Sequence[Any] | None = file.execute(self._for_file).fetchone()
        except sqlite3.Error as error:
            raise named(error) from error
        return row


def insert_rows(connection: Connection, table: Table, rows: Sequence[NamedTuple]) -> None:
    """Insert rows, at least one, whose members are columns and of the types that the driver stores."""
    statement, file = _insert(table.name, rows[0]._fields, _PLACEHOLDERS[connection.dialect.name]), _file(connection)
    if file is None:
        connection.exec_driver_sql(statement, list(rows))
        return
    try:
        file.executemany(statement, rows)
    except sqlite3.Error as error:
        raise named(error) from error


def _file(connection: Connection) -> sqlite3.Connection | None:
    """Return the driver's connection to a file; None for one to a server."""
    driver: object = connection.connection.dbapi_connection  # here the driver's own, and sooner at hand
    return driver if isinstance(driver, sqlite3.Connection) else None


@cache
def _insert(table: str, columns: Sequence[str], mark: str) -> str:
    names = ", ".join(f'"{column}"' for column in columns)
    return f'INSERT INTO "{table}" ({names}) VALUES ({", ".join([mark] * len(columns))})'  # noqa: S608 (names of ours)


def rows_by_key(connection: Connection, table: Table, wanted: Sequence[tuple[object, ...]]) -> Sequence[Row]:  # type: ignore[type-arg]
    """Find the rows with these primary keys, which are of several columns.

    `(a, b) IN (...)` says the same, but makes SQLite read the whole table; from a list it looks each one up.
    """
    key, mark = table.primary_key.columns, _PLACEHOLDERS[connection.dialect.name]
    names = ", ".join(f'"{column.name}"' for column in key)
    values = ", ".join([f"({', '.join([mark] * len(key))})"] * len(wanted))
    query = f'SELECT "{table.name}".* FROM wanted JOIN "{table.name}" USING ({names})'  # noqa: S608 (names of ours)
    statement = f"WITH wanted ({names}) AS (VALUES {values}) {query}"
    return connection.exec_driver_sql(statement, tuple(chain.from_iterable(wanted))).all()


def delete_some(connection: Connection, table: Table, condition: ColumnElement[bool], limit: int) -> int:
    """Delete rows for which a condition holds, at most so many; report how many."""
    key = list(table.primary_key)
    some = select(*key).where(condition).limit(limit)
    return connection.execute(delete(table).where(tuple_(*key).in_(some))).rowcount
