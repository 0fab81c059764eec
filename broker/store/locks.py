"""SQL about locks. There are few at any time, so those in force are always read whole."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, bindparam, insert, or_, select, update

from broker.audit.effects import Effect, LockLifted
from broker.model.clock import from_micros, to_micros
from broker.model.lease import Lease
from broker.model.selector import Lock, Selector, Target
from broker.store.aggregate import Aggregate, AtHead
from broker.store.rows import delete_some
from broker.store.schema import ledger_head, locks

_LIFT = update(locks).where(locks.c.id == bindparam("lock")).values(lifted_index=bindparam("new_lifted_index"))


def active(connection: Connection, at: datetime) -> Sequence[Lock]:
    """List the locks in force at an instant, oldest first."""
    return _found(connection, _unexpired(at) & locks.c.lifted_index.is_(None))


def active_before(connection: Connection, at: datetime, before: int) -> Sequence[Lock]:
    """List the locks that were in force just before the entry at an index, of those that last beyond an instant."""
    unlifted = or_(locks.c.lifted_index.is_(None), locks.c.lifted_index > before)
    return _found(connection, _unexpired(at) & unlifted & (locks.c.index < before))


def _unexpired(at: datetime) -> ColumnElement[bool]:
    return or_(locks.c.expires_at.is_(None), locks.c.expires_at > to_micros(at))


def _found(connection: Connection, which: ColumnElement[bool]) -> Sequence[Lock]:
    rows = connection.execute(select(locks).where(which).order_by(locks.c.index))
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


def lift(connection: Connection, lifted: Collection[tuple[str, int]]) -> None:
    """Note which entry lifts each lock."""
    connection.execute(_LIFT, [{"lock": lock, "new_lifted_index": index} for lock, index in lifted])


def forget(connection: Connection, before: datetime, limit: int) -> int:
    """Delete locks, at most so many, that expired before an instant or were lifted before the last commitment."""
    committed = select(ledger_head.c.committed_index).scalar_subquery()
    done = or_(locks.c.expires_at < to_micros(before), locks.c.lifted_index < committed)
    return delete_some(connection, locks, done, limit)


class Locks(Aggregate):
    """The locks of a transaction."""

    def __init__(self, head: AtHead) -> None:
        """Begin with what is in force."""
        self._head = head
        self._active = head.in_force.locks(head.at)
        self._new: list[Lock] = []
        self._lifted: list[tuple[str, int]] = []

    def active(self) -> Sequence[Lock]:
        """List the locks in force, oldest first."""
        return self._active

    def on(self, lease: Lease) -> Lock | None:
        """Find a lock in force that covers a lease."""
        if not self._active:
            return None
        selectors = lease.selectors()
        return next((lock for lock in self._active if lock.selector in selectors), None)

    def add(self, lock: Lock) -> None:
        """Add a lock."""
        self._active.append(lock)
        self._new.append(lock)

    def lift(self, lock: Lock, index: int) -> None:
        """Lift a lock, by the entry at an index."""
        self._active.remove(lock)
        self._lifted.append((lock.id, index))

    def tail(self) -> Sequence[Effect]:
        """List what is new, and what was lifted."""
        return [*self._new, *(LockLifted(lock_id) for lock_id, _ in self._lifted)]

    def write(self) -> None:
        """Insert what is new, and write what was lifted."""
        if self._new:
            add(self._head.connection, self._new)
        if self._lifted:
            lift(self._head.connection, self._lifted)
