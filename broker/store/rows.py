"""Many rows at once, as the driver takes them: for what every issue inserts, anything more costs more than the SQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import chain
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, Table, delete, select, tuple_

Forget = Callable[[Connection, datetime, int], int]
"""Deletes what has been of no use since before an instant, at most so many; reports how many."""

_PLACEHOLDERS = {"sqlite": "?", "postgresql": "%s"}


def insert_rows(connection: Connection, table: Table, rows: Sequence[NamedTuple]) -> None:
    """Insert rows, at least one, whose members are columns and of the types that the driver stores."""
    columns = rows[0]._fields
    names = ", ".join(f'"{column}"' for column in columns)
    values = ", ".join([_PLACEHOLDERS[connection.dialect.name]] * len(columns))
    statement = f'INSERT INTO "{table.name}" ({names}) VALUES ({values})'  # noqa: S608 (names of ours, no values)
    connection.exec_driver_sql(statement, list(rows))


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
