"""SQL about request ids: what was asked under which id, and what came of it (AIP-155)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from broker.model.clock import to_micros
from broker.store.aggregate import Aggregate, AtHead, Named
from broker.store.rows import delete_some, insert_rows, rows_by_key
from broker.store.schema import requests


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyRecord:
    """One answered request. `digest` stands for what was asked; `result` is the id of what was made."""

    principal: str
    request_id: str
    digest: bytes
    result: str
    expires_at: datetime


class _Row(NamedTuple):
    """One row; the members are the columns."""

    principal: str
    request_id: str
    digest: bytes
    result: str
    expires_at: int


def fetch(connection: Connection, keys: Collection[tuple[str, str]]) -> dict[tuple[str, str], tuple[bytes, str]]:
    """Find answered requests by principal and request id; return each one's digest and result."""
    rows = rows_by_key(connection, requests, list(keys))
    return {(row.principal, row.request_id): (row.digest, row.result) for row in rows}


def add(connection: Connection, new: Collection[IdempotencyRecord]) -> None:
    """Insert answered requests."""
    insert_rows(
        connection,
        requests,
        [
            _Row(record.principal, record.request_id, record.digest, record.result, to_micros(record.expires_at))
            for record in new
        ],
    )


def forget(connection: Connection, before: datetime, limit: int) -> int:
    """Delete requests whose ids may be used again, at most so many; report how many."""
    return delete_some(connection, requests, requests.c.expires_at < to_micros(before), limit)


class Requests(Aggregate):
    """The request ids of a transaction."""

    def __init__(self, head: AtHead) -> None:
        """Begin with none."""
        self._head = head
        self._results: dict[tuple[str, str], tuple[bytes, str]] = {}
        self._new: list[IdempotencyRecord] = []

    def find(self, principal: str, request_id: str) -> tuple[bytes, str] | None:
        """Find what was asked under a request id that the change has named (a digest), and what came of it (an id)."""
        return self._results.get((principal, request_id))

    def add(self, record: IdempotencyRecord) -> None:
        """Remember what came of a request id."""
        self._results[record.principal, record.request_id] = (record.digest, record.result)
        self._new.append(record)

    def prefetch(self, named: Collection[Named]) -> None:
        """Read what is known of the request ids."""
        if keys := {key for change in named for key in change.requests}:
            self._results = fetch(self._head.connection, keys)

    def write(self) -> None:
        """Insert what is new."""
        if self._new:
            add(self._head.connection, self._new)
