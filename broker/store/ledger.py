"""SQL about the ledger: its head, entries and inner nodes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, func, insert, select, tuple_, update

from broker.audit.proof import NodeId
from broker.audit.tree import Frontier, Node
from broker.store.rows import insert_rows
from broker.store.schema import ledger_entries, ledger_head, ledger_nodes

_HEAD = select(ledger_head).where(ledger_head.c.id == 1)
_LOCK_HEAD = select(ledger_head.c.size).where(ledger_head.c.id == 1).with_for_update()
_ADVANCE = (
    update(ledger_head)
    .where(ledger_head.c.id == 1, ledger_head.c.size == bindparam("old_size"))
    .values(size=bindparam("new_size"), peaks=bindparam("new_peaks"), note=bindparam("new_note"))
)
_NODES_PER_QUERY = 5_000
LEAST_INDEX, GREATEST_INDEX = -(1 << 63), (1 << 63) - 1  # that a column can hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The ledger's head: its origin, Merkle frontier and signed checkpoint."""

    origin: str
    frontier: Frontier
    note: str


class MalformedHead(ValueError):
    """The row of the head is not what a broker writes."""


class StoredEntry(NamedTuple):
    """One entry as stored; the members are the columns."""

    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody asks an entry for
    tenant: str
    task_id: str
    kind: str
    body: bytes
    leaf_hash: bytes


def head(connection: Connection) -> Head | None:
    """Read the head; None before the first entry.

    Raises:
        MalformedHead: it was altered, to something that is none.
    """
    rows = connection.execute(_HEAD).all()
    if not rows:
        return None
    row = rows[0]
    for name, kind in (("origin", str), ("size", int), ("peaks", bytes), ("note", str)):
        if not isinstance(getattr(row, name), kind):
            msg = f"the ledger's head is damaged: its `{name}` is of another type than a broker writes"
            raise MalformedHead(msg)
    try:
        return Head(origin=row.origin, frontier=Frontier.from_bytes(row.size, row.peaks), note=row.note)
    except ValueError as error:
        msg = f"the ledger's head is damaged: {error}"
        raise MalformedHead(msg) from error


def forgive_texts(connection: Connection) -> None:
    """Let this connection read texts that are not UTF-8, as texts that are not what they should be (SQLite)."""
    driver = connection.connection.driver_connection
    if isinstance(driver, sqlite3.Connection):
        driver.text_factory = lambda data: data.decode(errors="replace")


def lock_head(connection: Connection) -> int:
    """Wait for the head and hold it until the transaction ends; give the ledger's size."""
    size: int = connection.execute(_LOCK_HEAD).scalar_one()
    return size


def start(connection: Connection, origin: str, note: str) -> None:
    """Insert the head of an empty ledger."""
    connection.execute(insert(ledger_head), {"id": 1, "origin": origin, "size": 0, "peaks": b"", "note": note})


def append(connection: Connection, entries: Sequence[StoredEntry], nodes: Sequence[Node]) -> None:
    """Insert entries and the inner nodes they complete."""
    insert_rows(connection, ledger_entries, entries)
    if nodes:
        insert_rows(connection, ledger_nodes, nodes)


def advance(connection: Connection, old_size: int, frontier: Frontier, note: str) -> None:
    """Move the head on.

    Raises:
        RuntimeError: somebody else moved it although it was locked.
    """
    done = connection.execute(
        _ADVANCE,
        {"old_size": old_size, "new_size": frontier.size, "new_peaks": frontier.to_bytes(), "new_note": note},
    )
    if done.rowcount != 1:
        msg = f"the ledger's head is not at {old_size} any more"
        raise RuntimeError(msg)


def count_entries(connection: Connection) -> int:
    """Tell the index after the last entry."""
    last = connection.execute(select(func.max(ledger_entries.c.index))).scalar_one()
    return 0 if last is None else last + 1


def entry(connection: Connection, index: int) -> StoredEntry | None:
    """Find an entry."""
    return next(iter(_entries(connection, index, None, None, 1, exactly=True)), None)


def page(
    connection: Connection, tenant: str | None, task_id: str | None, start_index: int, limit: int
) -> Sequence[StoredEntry]:
    """List entries from an index on, ascending. Tenant None: of every tenant."""
    return list(_entries(connection, start_index, tenant, task_id, limit))


def entries(connection: Connection, page_size: int = 2_000) -> Iterator[StoredEntry]:
    """Stream all entries, ascending, a page at a time."""
    start_index = -1 << 62
    while found := page(connection, None, None, start_index, page_size):
        yield from found
        start_index = found[-1].index + 1


def fetch_nodes(connection: Connection, ids: Iterable[NodeId]) -> Mapping[NodeId, bytes]:
    """Find nodes of the tree; those of level 0 are the entries' leaf hashes."""
    leaves: list[NodeId] = []
    inner: list[NodeId] = []
    for node in ids:
        (leaves if node.level == 0 else inner).append(node)
    found: dict[NodeId, bytes] = {}
    for start_at in range(0, len(leaves), _NODES_PER_QUERY):
        wanted = [node.index for node in leaves[start_at : start_at + _NODES_PER_QUERY]]
        query = select(ledger_entries.c.index, ledger_entries.c.leaf_hash).where(ledger_entries.c.index.in_(wanted))
        found.update({NodeId(0, index): leaf for index, leaf in connection.execute(query)})
    key = tuple_(ledger_nodes.c.level, ledger_nodes.c.index)
    for start_at in range(0, len(inner), _NODES_PER_QUERY):
        pairs = [(node.level, node.index) for node in inner[start_at : start_at + _NODES_PER_QUERY]]
        for level, index, digest in connection.execute(select(ledger_nodes).where(key.in_(pairs))):
            found[NodeId(level, index)] = digest
    return found


def _entries(
    connection: Connection,
    start_index: int,
    tenant: str | None,
    task_id: str | None,
    limit: int,
    *,
    exactly: bool = False,
) -> Iterator[StoredEntry]:
    at = ledger_entries.c.index
    query = select(ledger_entries).where(at == start_index if exactly else at >= start_index).order_by(at).limit(limit)
    if tenant is not None:
        query = query.where(ledger_entries.c.tenant == tenant)
    if task_id is not None:
        query = query.where(ledger_entries.c.task_id == task_id)
    for row in connection.execute(query):
        yield StoredEntry(*row)
