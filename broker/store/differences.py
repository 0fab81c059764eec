"""Hold tables against what they should be, row by row, in memory that does not grow with them.

Both are read as they are stored, without types: what somebody has put into a cell need not be of the column's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table

from broker.store.derived import TABLES
from broker.store.schema import leases, locks, rules, task_agents

_ROWS = 1_000
_Row = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that is not as the ledger says. `index` is that of the entry that made it, where it names one."""

    index: int | None
    problem: str


def differences(actual: Connection, expected: Connection, forgotten_before: int | None) -> Iterator[Difference]:
    """List the rows that differ, are missing, or are there without an entry, table by table.

    `expected` is used up. Rows of what had ended before `forgotten_before` (microseconds) may have been deleted.
    """
    for table in TABLES:
        yield from _compare(actual, expected, table)
        yield from _missing(expected, table, forgotten_before)


def _compare(actual: Connection, expected: Connection, table: Table) -> Iterator[Difference]:
    names = [column.name for column in table.columns]
    key = [names.index(column.name) for column in table.primary_key.columns]
    columns = ", ".join(f'"{name}"' for name in names)
    result = actual.execution_options(stream_results=True).exec_driver_sql(f'SELECT {columns} FROM "{table.name}"')  # noqa: S608 (names of ours)
    matches = " AND ".join(f'"{names[place]}" = ?' for place in key)
    look = f'SELECT {columns} FROM "{table.name}" WHERE {matches}'  # noqa: S608 (names of ours)
    drop = f'DELETE FROM "{table.name}" WHERE {matches}'  # noqa: S608 (names of ours)
    while rows := result.fetchmany(_ROWS):
        for row in rows:
            values = tuple(row[place] for place in key)
            should = expected.exec_driver_sql(look, values).fetchone()
            if should is None:
                yield Difference(None, f"{table.name}: {_name(table, row)} is there, and no entry makes it")
                continue
            expected.exec_driver_sql(drop, values)
            wrong = [name for name, is_, ought in zip(names, row, should, strict=True) if not _same(is_, ought)]
            if wrong:
                altered = ", ".join(f"`{name}`" for name in wrong)
                yield Difference(_index(table, should), f"{table.name}: {_name(table, row)} was altered: {altered}")


def _missing(expected: Connection, table: Table, forgotten_before: int | None) -> Iterator[Difference]:
    names = [column.name for column in table.columns]
    may_be = _MAY_BE_FORGOTTEN.get(table.name)
    columns = ", ".join(f'"{name}"' for name in names)
    for row in expected.exec_driver_sql(f'SELECT {columns} FROM "{table.name}"'):  # noqa: S608 (names of ours)
        cells = dict(zip(names, row, strict=True))
        if may_be is None or not may_be(cells, forgotten_before):
            yield Difference(_index(table, row), f"{table.name}: {_name(table, row)} is missing")


def _same(is_: object, ought: object) -> bool:
    """Compare two cells. A truth value is a number in SQLite, and not in PostgreSQL."""
    if isinstance(ought, int):
        return isinstance(is_, int) and is_ == ought
    return type(is_) is type(ought) and is_ == ought


def _name(table: Table, row: _Row) -> str:
    names = [column.name for column in table.columns]
    return " ".join(f"{column.name} `{row[names.index(column.name)]}`" for column in table.primary_key.columns)


def _index(table: Table, row: _Row) -> int | None:
    names = [column.name for column in table.columns]
    return row[names.index("index")] if "index" in names else None


def _ended_lease(cells: Mapping[str, Any], before: int | None) -> bool:
    return before is not None and bool(cells["closed"]) and cells["expires_at"] < before


def _ended_lock(cells: Mapping[str, Any], before: int | None) -> bool:
    expires_at = cells["expires_at"]
    return cells["lifted_index"] is not None or (before is not None and expires_at is not None and expires_at < before)


_MAY_BE_FORGOTTEN: Mapping[str, Callable[[Mapping[str, Any], int | None], bool]] = {
    leases.name: _ended_lease,
    locks.name: _ended_lock,
    rules.name: lambda cells, before: before is not None and cells["kept_until"] < before,
    task_agents.name: lambda cells, before: before is not None and cells["deadline"] < before,
}
"""Which rows housekeeping deletes, once an entry has said so: of tasks, none."""
