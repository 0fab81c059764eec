"""SQL about locks. There are few at any time, so those in force are always read whole."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, insert, or_, select

from broker.model.clock import from_micros, to_micros
from broker.model.selector import Lock, Selector, Target
from broker.store.rows import delete_some
from broker.store.schema import locks


def standing(connection: Connection, at: datetime) -> Sequence[Lock]:
    """List the locks in force at an instant, oldest first."""
    in_force = or_(locks.c.expires_at.is_(None), locks.c.expires_at > to_micros(at))
    rows = connection.execute(select(locks).where(in_force).order_by(locks.c.index))
    return [
        Lock(
            id=row.id,
            selector=Selector(row.tenant, Target(row.target), row.value),
            reason=row.reason,
            created_by=row.created_by,
            created_at=from_micros(row.created_at),
            expires_at=None if row.expires_at is None else from_micros(row.expires_at),
            index=row._mapping["index"],  # noqa: SLF001 (a public attribute, underscored against column names)
        )
        for row in rows
    ]


def add(connection: Connection, new: Collection[Lock]) -> None:
    """Insert locks."""
    connection.execute(
        insert(locks),
        [
            {
                "id": lock.id,
                "tenant": lock.selector.tenant,
                "target": lock.selector.target.value,
                "value": lock.selector.value,
                "reason": lock.reason,
                "created_by": lock.created_by,
                "created_at": to_micros(lock.created_at),
                "expires_at": None if lock.expires_at is None else to_micros(lock.expires_at),
                "index": lock.index,
            }
            for lock in new
        ],
    )


def remove(connection: Connection, ids: Collection[str]) -> None:
    """Delete locks."""
    connection.execute(delete(locks).where(locks.c.id.in_(ids)))


def forget(connection: Connection, before: datetime, limit: int) -> int:
    """Delete locks that lifted themselves before an instant, at most so many; tell how many."""
    return delete_some(connection, locks, locks.c.expires_at < to_micros(before), limit)
