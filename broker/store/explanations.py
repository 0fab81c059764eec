"""SQL about explanations: what models said of themselves. Kept as context; the ledger commits to each with a salt."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert

from broker.model.clock import to_micros
from broker.store.aggregate import Aggregate, AtHead
from broker.store.rows import delete_some
from broker.store.schema import explanations


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One explanation, with the index of the entry that commits to it."""

    index: int
    salt: bytes
    text: str
    expires_at: datetime


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


def forget(connection: Connection, before: datetime, limit: int) -> int:
    """Delete explanations that have been kept long enough, at most so many; report how many."""
    return delete_some(connection, explanations, explanations.c.expires_at < to_micros(before), limit)


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
