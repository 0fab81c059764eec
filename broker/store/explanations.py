"""SQL about explanations: what models said of themselves. Kept as context; the ledger commits to each with a salt."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select

from broker.audit import canonical
from broker.model.clock import to_micros
from broker.model.entry import Json
from broker.store import ledger
from broker.store.aggregate import Aggregate, AtHead
from broker.store.ledger import StoredEntry
from broker.store.rows import delete_some
from broker.store.schema import explanations


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One explanation, with the index of the entry that commits to it."""

    index: int
    salt: bytes
    text: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Testimony:
    """What is kept of an explanation, and whether it is what its entry commits to: if not, one was altered."""

    salt: bytes
    text: str
    matches_entry: bool


def add(connection: Connection, new: Collection[Explanation]) -> None:
    """Insert explanations."""
    connection.execute(
        insert(explanations),
        [
            {
                "index": explanation.index,
                "salt": explanation.salt,
                "text": explanation.text,
                "expires_at": to_micros(explanation.expires_at),
            }
            for explanation in new
        ],
    )


def beside(connection: Connection, tenant: str | None, index: int, at: datetime) -> Testimony | None:
    """Find the explanation beside the entry at an index; None, if it is past its time. Tenant None: of every tenant."""
    entry = next(iter(ledger.page(connection, tenant, None, index, 1)), None)
    if entry is None or entry.index != index:
        return None
    query = select(explanations.c.salt, explanations.c.text).where(
        explanations.c.index == index, explanations.c.expires_at >= to_micros(at)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    if not isinstance(row.salt, bytes) or not isinstance(row.text, str):  # SQLite keeps whatever it is given
        return Testimony(b"", "", matches_entry=False)
    return Testimony(row.salt, row.text, _commitment(entry) == canonical.commit(row.salt, row.text))


def forget(connection: Connection, before: datetime, limit: int) -> int:
    """Delete explanations that have been kept long enough, at most so many; report how many."""
    return delete_some(connection, explanations, explanations.c.expires_at < to_micros(before), limit)


def _commitment(entry: StoredEntry) -> Json:
    """Return what an entry says of an explanation; None, if that is nothing, or it is no entry."""
    try:
        asserted = canonical.decode(entry.body).get("asserted")
    except canonical.MalformedEntry:
        return None
    return asserted.get("explanation") if isinstance(asserted, dict) else None


class Explanations(Aggregate):
    """The explanations of a transaction, each beside the entry that commits to it."""

    def __init__(self, head: AtHead) -> None:
        """Begin with none."""
        self._head = head
        self._new: list[Explanation] = []

    def add(self, explanation: Explanation) -> None:
        """Keep an explanation."""
        self._new.append(explanation)

    def write(self) -> None:
        """Insert what is new."""
        if self._new:
            add(self._head.connection, self._new)
