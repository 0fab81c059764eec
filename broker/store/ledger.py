"""SQL about the ledger: its head, entries and inner nodes."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, func, insert, select, update

from broker.audit.proof import NodeId
from broker.audit.tree import Frontier, Node
from broker.model.errors import CannotStart, Hints, Reason, Refusal
from broker.store.rows import Sql, insert_rows, rows_by_key
from broker.store.schema import ledger_entries, ledger_head, ledger_nodes, ledger_origins

_HEAD = select(ledger_head).where(ledger_head.c.id == 1)
_LOCK_HEAD = Sql("SELECT size, peaks FROM ledger_head WHERE id = 1", for_server=" FOR UPDATE")
_ADVANCE = Sql(
    """
    UPDATE ledger_head
    SET size = :size, next_index = :next_index, peaks = :peaks, note = :note, committed_index = :committed_index
    WHERE id = 1 AND size = :old_size
    """
)
_NODES_PER_QUERY = 500  # each takes time to write out, and a server waits for two seconds between statements
LEAST_INDEX, GREATEST_INDEX = -(1 << 63), (1 << 63) - 1  # that a column can hold
_ENTRIES_PER_QUERY = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The ledger's head: its origin, Merkle frontier and signed checkpoint.

    `next_index` is the index of the next entry; `committed_index` that of the newest entry that commits to what is in
    force, if there is one.
    """

    origin: str
    frontier: Frontier
    next_index: int
    note: str
    committed_index: int | None


class Span(NamedTuple):
    """From the leaf `first_leaf` on the ledger has this origin, and entry `first_index` is that leaf."""

    first_leaf: int
    first_index: int
    origin: str


@dataclass(frozen=True, slots=True)
class Spans:
    """The spans of a ledger, ascending: which entry is which leaf of the tree. Each adoption begins another."""

    spans: Sequence[Span]

    def index_of(self, leaf: int) -> int:
        """Report the index of the entry that is a leaf."""
        span = next(span for span in reversed(self.spans) if span.first_leaf <= leaf)
        return leaf - span.first_leaf + span.first_index

    def leaf_of(self, index: int) -> int | None:
        """Report which leaf the entry at an index is; None for an index that was passed over."""
        span = next((span for span in reversed(self.spans) if span.first_index <= index), None)
        if span is None:
            return None
        leaf = index - span.first_index + span.first_leaf
        following = next((other for other in self.spans if other.first_leaf > span.first_leaf), None)
        return leaf if following is None or leaf < following.first_leaf else None


class LedgerMismatch(CannotStart):
    """The database's ledger cannot be followed or extended. The message says why and what to do."""

    def refusal(self) -> Refusal:
        """Return what callers are told. The details are for the log alone."""
        return Refusal(
            Reason.LEDGER_UNAVAILABLE,
            "the ledger in the database is not the one that this broker has signed, so nothing is signed behind it",
            Hints(next="operators: the broker's log says why, and docs/how-to/restore-a-backup.md what to do"),
        )


class MalformedHead(LedgerMismatch):
    """The row of the head is not what a broker writes."""


class StoredEntry(NamedTuple):
    """One entry as stored; the members are the columns."""

    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody asks an entry for
    tenant: str
    task_id: str
    kind: str
    body: bytes
    leaf_hash: bytes


# In the order of the members, whichever that of the table's columns is.
_ENTRY = select(*(ledger_entries.c[name] for name in StoredEntry._fields))
_SPAN = select(*(ledger_origins.c[name] for name in Span._fields))


def head(connection: Connection) -> Head | None:
    """Read the head; None before the first entry.

    Raises:
        MalformedHead: it was altered, to something that is none.
    """
    rows = connection.execute(_HEAD).all()
    if not rows:
        return None
    row = rows[0]
    for name, kind in (("origin", str), ("size", int), ("next_index", int), ("peaks", bytes), ("note", str)):
        if not isinstance(getattr(row, name), kind):
            msg = f"the ledger's head is damaged: its `{name}` is of another type than a broker writes"
            raise MalformedHead(msg)
    return Head(
        origin=row.origin,
        frontier=_frontier(row.size, row.peaks),
        next_index=row.next_index,
        note=row.note,
        committed_index=row.committed_index,
    )


def forgive_texts(connection: Connection) -> None:
    """Let this connection read texts that are not UTF-8, as texts that are not what they should be (SQLite)."""
    driver = connection.connection.driver_connection
    if isinstance(driver, sqlite3.Connection):
        driver.text_factory = lambda data: data.decode(errors="replace")


def lock_head(connection: Connection, known: Frontier | None = None) -> Frontier:
    """Wait for the head and hold it until the transaction ends; return the ledger's frontier: `known`, if it is that.

    Raises:
        LedgerMismatch: it is gone, or was altered to something that is none.
    """
    row = _LOCK_HEAD.row(connection)
    if row is None:
        raise no_head()
    size, peaks = row
    if known is not None and known.size == size and known.to_bytes() == peaks:
        return known
    return _frontier(size, peaks)


def no_head() -> LedgerMismatch:
    """Say that a ledger which was started has no head any more: the table was emptied, or is being restored."""
    return LedgerMismatch("the ledger has no head: its table was emptied; bring back the newest backup")


def touch(connection: Connection) -> None:
    """Write the head as it is, by way of another: SQLite writes nothing where nothing changes."""
    for step in (1, -1):
        connection.execute(update(ledger_head).where(ledger_head.c.id == 1).values(size=ledger_head.c.size + step))


def start(connection: Connection, origin: str, note: str) -> None:
    """Insert the head of an empty ledger."""
    connection.execute(
        insert(ledger_head),
        {"id": 1, "origin": origin, "size": 0, "next_index": 0, "peaks": b"", "note": note, "committed_index": None},
    )
    connection.execute(insert(ledger_origins), Span(0, 0, origin)._asdict())


def rename(connection: Connection, span: Span) -> None:
    """Let the ledger go on under another origin."""
    connection.execute(update(ledger_head).where(ledger_head.c.id == 1).values(origin=span.origin))
    connection.execute(insert(ledger_origins), span._asdict())


def spans(connection: Connection) -> Spans:
    """Read the origins that the ledger has had."""
    rows = connection.execute(_SPAN.order_by(ledger_origins.c.first_leaf))
    return Spans([Span(*row) for row in rows])


def append(connection: Connection, entries: Sequence[StoredEntry], nodes: Sequence[Node]) -> None:
    """Insert entries and the inner nodes they complete."""
    insert_rows(connection, ledger_entries, entries)
    if nodes:
        insert_rows(connection, ledger_nodes, nodes)


def advance(connection: Connection, old_size: int, head: Head) -> None:
    """Move the head on.

    Raises:
        RuntimeError: somebody else moved it although it was locked.
    """
    moved = _ADVANCE.run(
        connection,
        {
            "old_size": old_size,
            "size": head.frontier.size,
            "next_index": head.next_index,
            "peaks": head.frontier.to_bytes(),
            "note": head.note,
            "committed_index": head.committed_index,
        },
    )
    if moved != 1:
        msg = f"the ledger's head is not at {old_size} any more"
        raise RuntimeError(msg)


def last_index(connection: Connection) -> int:
    """Report the index of the last entry, or -1."""
    last = connection.execute(select(func.max(ledger_entries.c.index))).scalar_one()
    return -1 if last is None else last


def fetch(connection: Connection, indexes: Collection[int]) -> Mapping[int, bytes]:
    """Find the bodies of entries by index."""
    bodies: dict[int, bytes] = {}
    wanted = list(indexes)
    for start_at in range(0, len(wanted), _ENTRIES_PER_QUERY):
        query = select(ledger_entries.c.index, ledger_entries.c.body)
        rows = connection.execute(
            query.where(ledger_entries.c.index.in_(wanted[start_at : start_at + _ENTRIES_PER_QUERY]))
        )
        bodies.update((index, body) for index, body in rows if isinstance(body, bytes))
    return bodies


def entry(connection: Connection, index: int) -> StoredEntry | None:
    """Find an entry."""
    return next(iter(_entries(connection, index, None, None, 1, exactly=True)), None)


def page(
    connection: Connection, tenant: str | None, task_id: str | None, start_index: int, limit: int
) -> Sequence[StoredEntry]:
    """List entries from an index on, ascending. Tenant None: of every tenant."""
    return list(_entries(connection, start_index, tenant, task_id, limit))


def entries(connection: Connection, start_index: int = -1 << 62, page_size: int = 2_000) -> Iterator[StoredEntry]:
    """Stream all entries from an index on, ascending, a page at a time."""
    while stored := page(connection, None, None, start_index, page_size):
        yield from stored
        start_index = stored[-1].index + 1


def fetch_nodes(connection: Connection, ids: Iterable[NodeId]) -> Mapping[NodeId, bytes]:
    """Find nodes of the tree; those of level 0 are the entries' leaf hashes."""
    at = spans(connection)
    leaves: list[NodeId] = []
    inner: list[NodeId] = []
    for node in ids:
        (leaves if node.level == 0 else inner).append(node)
    digests: dict[NodeId, bytes] = {}
    for start_at in range(0, len(leaves), _NODES_PER_QUERY):
        wanted = {at.index_of(node.index): node for node in leaves[start_at : start_at + _NODES_PER_QUERY]}
        query = select(ledger_entries.c.index, ledger_entries.c.leaf_hash).where(ledger_entries.c.index.in_(wanted))
        digests.update({wanted[index]: leaf for index, leaf in connection.execute(query)})
    for start_at in range(0, len(inner), _NODES_PER_QUERY):
        pairs = [(node.level, node.index) for node in inner[start_at : start_at + _NODES_PER_QUERY]]
        for level, index, digest in rows_by_key(connection, ledger_nodes, pairs):
            digests[NodeId(level, index)] = digest
    return digests


def _frontier(size: int, peaks: bytes) -> Frontier:
    try:
        return Frontier.from_bytes(size, peaks)
    except ValueError as error:
        msg = f"the ledger's head is damaged: {error}"
        raise MalformedHead(msg) from error


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
    query = _ENTRY.where(at == start_index if exactly else at >= start_index).order_by(at).limit(limit)
    if tenant is not None:
        query = query.where(ledger_entries.c.tenant == tenant)
    if task_id is not None:
        query = query.where(ledger_entries.c.task_id == task_id)
    for row in connection.execute(query):
        yield StoredEntry(*row)
