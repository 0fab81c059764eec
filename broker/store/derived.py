"""Put what entries do into the tables: the one way in which state follows from the ledger alone.

The broker writes its tables as it records entries; a check, or the first start of this version, makes them anew here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sqlalchemy import Connection, delete

from broker.audit.effects import (
    Adopted,
    Effect,
    LeaseIssued,
    LeaseRenewed,
    LeasesClosed,
    LockLifted,
    TaskBegun,
    TaskEnded,
    TaskExtended,
)
from broker.model.lease import Lease
from broker.model.selector import Lock, RevocationRule
from broker.model.task import Task, TaskState
from broker.store import leases, locks, rules, tasks
from broker.store.schema import leases as leases_table
from broker.store.schema import locks as locks_table
from broker.store.schema import rules as rules_table
from broker.store.schema import task_agents as agents_table
from broker.store.schema import tasks as tasks_table

TABLES = (tasks_table, agents_table, leases_table, rules_table, locks_table)
"""The tables whose rows follow from the ledger."""
_MOST_HELD = 5_000


class Derivation:
    """Follows entries, and writes what they do to the tables, many at a time."""

    def __init__(self, connection: Connection) -> None:
        """Begin with empty tables."""
        self._connection = connection
        self._tasks: dict[str, Task] = {}
        self._new_tasks: set[str] = set()
        self._leases: dict[str, Lease] = {}
        self._new_leases: set[str] = set()
        self._rules: list[RevocationRule] = []

    def clear(self) -> None:
        """Empty the tables."""
        for table in TABLES:
            self._connection.execute(delete(table))

    def apply(self, index: int, effects: Iterable[Effect]) -> None:
        """Follow one entry."""
        for effect in effects:
            self._apply_to_tasks(effect)
            self._apply_to_leases(effect)
            self._apply_to_rules_and_locks(index, effect)
        if len(self._leases) + len(self._tasks) + len(self._rules) >= _MOST_HELD:
            self.flush()

    def flush(self) -> None:
        """Write what is held back."""
        new = [self._leases.pop(lease_id) for lease_id in self._new_leases]
        if new:
            leases.add(self._connection, new)
        if self._leases:
            leases.renew(self._connection, self._leases.values())
        begun = [self._tasks.pop(task_id) for task_id in self._new_tasks]
        if begun:
            tasks.add(self._connection, [replace(task, state=TaskState.ACTIVE) for task in begun])
        changed = [*begun, *self._tasks.values()]
        if changed:
            tasks.change(self._connection, changed)
            tasks.move_agents(self._connection, changed)
        if self._rules:
            rules.add(self._connection, self._rules)
        for held in (self._tasks, self._new_tasks, self._leases, self._new_leases, self._rules):
            held.clear()

    def _apply_to_tasks(self, effect: Effect) -> None:
        match effect:
            case TaskBegun(task):
                self._tasks[task.id] = task
                self._new_tasks.add(task.id)
            case TaskExtended():
                self._change_task(effect.task_id, effect.index, deadline=effect.deadline)
            case TaskEnded():
                self._change_task(effect.task_id, effect.index, state=effect.state, ended_at=effect.at)
            case Adopted():
                self.flush()
                tasks.cancel_all(self._connection, effect.at, effect.index)
            case _:
                pass

    def _apply_to_leases(self, effect: Effect) -> None:
        match effect:
            case LeaseIssued(lease):
                self._leases[lease.id] = lease
                self._new_leases.add(lease.id)
                self._count(lease.task_id)
            case LeaseRenewed(renewed):
                self._renew(renewed)
            case LeasesClosed(ids):
                self.flush()
                leases.close(self._connection, ids)
            case _:
                pass

    def _apply_to_rules_and_locks(self, index: int, effect: Effect) -> None:
        match effect:
            case RevocationRule():
                self._rules.append(effect)
            case Lock():
                locks.add(self._connection, [effect])
            case LockLifted():
                locks.lift(self._connection, [(effect.lock_id, index)])
            case _:
                pass

    def _task(self, task_id: str) -> Task | None:
        """Find a task, held or written."""
        task = self._tasks.get(task_id)
        if task is None:
            task = tasks.fetch(self._connection, [task_id]).get(task_id)
            if task is not None:
                self._tasks[task_id] = task
        return task

    def _change_task(self, task_id: str, index: int, **changes: object) -> None:
        task = self._task(task_id)
        if task is not None:
            self._tasks[task_id] = replace(task, revision=task.revision + 1, changed_index=index, **changes)  # type: ignore[arg-type]

    def _count(self, task_id: str) -> None:
        task = self._task(task_id)
        if task is not None:
            self._tasks[task_id] = replace(task, leases_issued=task.leases_issued + 1)

    def _renew(self, renewed: Lease) -> None:
        lease = self._leases.get(renewed.id) or leases.fetch(self._connection, [renewed.id]).get(renewed.id)
        if lease is not None:
            self._leases[lease.id] = replace(
                lease,
                expires_at=renewed.expires_at,
                renewals=renewed.renewals,
                changed_index=renewed.changed_index,
            )
