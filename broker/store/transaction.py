"""One transaction of the ledger's writer: what changes see and write while they hold the head."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Generic, TypeVar

from sqlalchemy import Connection

from broker.audit import canonical, tree
from broker.audit.effects import Adopted, Effect, LeaseIssued, LockLifted
from broker.audit.in_force import InForce
from broker.model.entry import Entry, Kind
from broker.model.errors import Hints, Reason, Refusal, invalid
from broker.model.lease import Lease
from broker.model.selector import Lock, Rule, Selector, Target
from broker.model.task import Task, TaskState
from broker.store import explanations, leases, ledger, locks, quotas, requests, rules, tasks
from broker.store.explanations import Explanation
from broker.store.follower import Position, Tail
from broker.store.provenance import Proven
from broker.store.requests import IdempotencyRecord

T = TypeVar("T")

_MOST_KEPT_TASKS = 1_000
_COMMIT_EVERY = 1_000  # entries: so many are replayed at a start, at the most


@dataclass(frozen=True, slots=True)
class AfterCommit(Generic[T]):
    """What comes of a change only when all of its batch is durable: a token, say.

    The makers of a batch run one after the other: signing alone keeps the curve's tables in the processor's cache.
    """

    make: Callable[[], T]


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """Something to do at the head of the ledger.

    `run` checks its guards first, and raises `Refusal` or `Stale` before it changes anything. What it will look at is
    named here, so that a whole batch of changes is read in a handful of queries. An `urgent` change takes away: it is
    still done when the disk is full.
    """

    run: Callable[[Transaction], T | AfterCommit[T]]
    tasks: tuple[str, ...] = ()
    leases: tuple[str, ...] = ()
    requests: tuple[tuple[str, str], ...] = ()
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class HeadState:
    """What one transaction leaves to the next: still the truth, if the ledger's head has not moved in between.

    Whoever changes a task, or issues a lease, moves the head: no other broker can have done it unseen. `issued` counts
    leases by tenant, in the minute `window`.
    """

    position: Position
    tasks: Mapping[str, Task] = field(default_factory=dict)
    issued: Mapping[str, int] = field(default_factory=dict)
    window: int = -1


class Stale(Exception):
    """What a change was decided on has changed meanwhile: nothing was done; decide again."""


class Transaction:
    """The state at the head of the ledger, and the changes collected so far.

    Works run one after the other; each sees what those before it changed. `at` is the one instant of them all. What is
    in force comes from the ledger's entries, never from a table; a record that is looked up is held against its entries
    first (`proven`).
    """

    def __init__(
        self, connection: Connection, at: datetime, head: HeadState, in_force: InForce, proven: Proven
    ) -> None:
        self.connection, self.at = connection, at
        self.in_force = in_force
        self.tokens_until = in_force.tokens_until
        self.committed_index = in_force.committed
        self.changed_tasks: dict[str, Task] = {}
        self.new_rules: list[Rule] = []
        self._start = head.position
        self._proven = proven
        self._altered: set[str] = set()
        self._window = quotas.window(at)
        self._entries: list[tuple[Entry, bytes]] = []
        self._tasks = dict(head.tasks)
        self._leases: dict[str, Lease] = {}
        self._records: dict[tuple[str, str], tuple[bytes, str]] = {}
        self._locks = in_force.locks(at)
        self._issued = dict(head.issued) if head.window == self._window else {}
        self._live_tasks: dict[str, int] = {}
        self._begun: Counter[str] = Counter()
        self._new_tasks: list[Task] = []
        self._counted: Counter[str] = Counter()
        self._new_leases: list[Lease] = []
        self._renewed: dict[str, Lease] = {}
        self._last_to_end: Lease | None = None  # of those made here, if it outlives all that were there
        self._new_locks: list[Lock] = []
        self._new_records: list[IdempotencyRecord] = []
        self._new_explanations: list[Explanation] = []
        self._changed_quotas: dict[str, int] = {}
        self._closed: list[str] = []
        self._lifted: list[tuple[str, int]] = []
        self._adopted: list[Adopted] = []

    # What changes see.

    def prefetch(self, changes: Iterable[Change[object]]) -> None:
        """Read what changes have named."""
        changes = list(changes)
        if wanted := {task for change in changes for task in change.tasks} - self._tasks.keys():
            self._tasks.update(self._held_tasks(tasks.fetch(self.connection, wanted)))
        if wanted := {lease for change in changes for lease in change.leases}:
            self._leases.update(self._held_leases(leases.fetch_bare(self.connection, wanted)))
        if keys := {key for change in changes for key in change.requests}:
            self._records.update(requests.fetch(self.connection, keys))
        if tenants := {task.tenant for task in self._tasks.values()} - self._issued.keys():
            self._issued |= dict.fromkeys(tenants, 0) | quotas.fetch(self.connection, tenants, self._window)

    def task(self, task_id: str) -> Task | None:
        """Find a task that the change has named.

        Raises:
            Refusal: RECORD_ALTERED.
        """
        self._refuse_altered("task", task_id)
        return self._tasks.get(task_id)

    def lease(self, lease_id: str) -> Lease | None:
        """Find a lease that the change has named, or one made in this transaction.

        Raises:
            Refusal: RECORD_ALTERED.
        """
        self._refuse_altered("lease", lease_id)
        lease = self._leases.get(lease_id)
        if lease is None or not (self.new_rules or self.in_force.last_rule > lease.index):
            return lease
        covers = leases.covers(lease)
        ended = self.in_force.ended_by(covers, lease.index)
        ends = [rule.index for rule in self.new_rules if rule.index > lease.index and rule.selector in covers]
        if ended is not None:
            ends.append(ended.index)
        elif lease.expires_at <= self.at:  # what ended it need not be in force any more
            (lease,) = leases.with_rules(self.connection, [lease])
        return replace(lease, revoked_index=min(ends, default=lease.revoked_index))

    def idempotency_record(self, principal: str, request_id: str) -> tuple[bytes, str] | None:
        """Find what was asked under a request id that the change has named (a digest), and what came of it (an id)."""
        return self._records.get((principal, request_id))

    def locks(self) -> list[Lock]:
        """List the locks in force."""
        return self._locks

    def lock_on(self, lease: Lease) -> Lock | None:
        """Find a lock in force that covers a lease."""
        active = self.locks()
        covers = leases.covers(lease) if active else ()
        return next((lock for lock in active if lock.selector in covers), None)

    def rule_on(self, selector: Selector) -> int | None:
        """Report the index of the last rule with exactly this selector."""
        ends = [rule.index for rule in self.new_rules if rule.selector == selector]
        last = self.in_force.newest(selector)
        if last is not None:
            ends.append(last.index)
        return max(ends or rules.fetch(self.connection, [selector]).get(selector, []), default=None)

    def leases_issued(self, task: Task) -> int:
        """Report how many leases a task has ever had."""
        return task.leases_issued + self._counted[task.id]

    def live_tasks(self, tenant: str) -> int:
        """Tell for how many of a tenant's tasks credentials may be issued."""
        if tenant not in self._live_tasks:
            self._live_tasks[tenant] = tasks.count_live(self.connection, tenant, self.at)
        return self._live_tasks[tenant] + self._begun[tenant]

    def issued_this_minute(self, tenant: str) -> int:
        """Report how many leases the tenant of a named task was issued in the running minute."""
        return self._issued.get(tenant, 0)

    # What changes write.

    def record(self, entry: Entry, largest: str = "request") -> int:
        """Append an entry; return its index. `largest` is the field of the request that takes most of it.

        Raises:
            Refusal: INVALID_ARGUMENT, if it is too long for the ledger; nothing is appended.
        """
        try:
            body = canonical.encode(entry)
        except canonical.EntryTooLong as error:
            raise invalid(
                largest,
                f"makes an entry of {error.size} bytes, and the ledger takes at most {canonical.MAX_BODY}: "
                "ask for less at once, or in shorter words",
            ) from error
        self._entries.append((entry, body))
        return self._start.next_index + len(self._entries) - 1

    def next_index(self) -> int:
        """Report the index that the next entry will have."""
        return self._start.next_index + len(self._entries)

    def add_task(self, task: Task) -> None:
        """Remember a new task."""
        self._begun[task.tenant] += task.is_live(self.at)
        self._tasks[task.id] = task
        self._new_tasks.append(task)

    def change_task(self, task: Task) -> None:
        """Remember a task's new deadline, state or counters."""
        self._begun[task.tenant] += task.is_live(self.at) - self._tasks[task.id].is_live(self.at)
        self._tasks[task.id] = task
        self.changed_tasks[task.id] = task

    def add_lease(self, lease: Lease) -> None:
        """Remember a new lease, and count it against its task and tenant."""
        self._leases[lease.id] = lease
        self._new_leases.append(lease)
        self._note_end(lease)
        self._counted[lease.task_id] += 1
        count = self._issued.get(lease.tenant, 0) + 1
        self._issued[lease.tenant] = self._changed_quotas[lease.tenant] = count

    def renew_lease(self, lease: Lease) -> None:
        """Remember a lease's new end."""
        self._leases[lease.id] = self._renewed[lease.id] = lease
        self._note_end(lease)

    def close_leases(self, ids: Iterable[str]) -> None:
        """Note that the end of leases is recorded."""
        self._closed.extend(ids)

    def add_rule(self, rule: Rule) -> None:
        """Remember a rule."""
        self.new_rules.append(rule)

    def add_lock(self, lock: Lock) -> None:
        """Remember a lock."""
        self._locks.append(lock)
        self._new_locks.append(lock)

    def lift_lock(self, lock: Lock, index: int) -> None:
        """Lift a lock, by the entry at an index."""
        self._locks.remove(lock)
        self._lifted.append((lock.id, index))

    def adopt(self, adopted: Adopted) -> None:
        """Note that the ledger goes on under another name."""
        self._adopted.append(adopted)

    def add_idempotency_record(self, record: IdempotencyRecord) -> None:
        """Remember what came of a request id."""
        self._records[record.principal, record.request_id] = (record.digest, record.result)
        self._new_records.append(record)

    def add_explanation(self, explanation: Explanation) -> None:
        """Keep an explanation beside the entry that commits to it."""
        self._new_explanations.append(explanation)

    # What the writer does with them.

    def write(self, horizon: datetime) -> tuple[HeadState, Tail]:
        """Write all changes. Give what the next transaction may take for granted, and what a follower must know of it.

        `horizon`: what nobody needs from then on may be forgotten, where it is time to commit to what is in force.
        """
        tail = self._commit_to_what_is_in_force(horizon)
        position = self._write_entries() if self._entries else self._start
        # The count is no change that copies of a task would have to follow: its revision stays.
        for task_id, count in self._counted.items():
            task = self._tasks[task_id]
            self._tasks[task_id] = replace(task, leases_issued=task.leases_issued + count)
        # What was made and changed in one batch is inserted, then changed.
        changed = [self._tasks[task_id] for task_id in self._counted.keys() | self.changed_tasks.keys()]
        self._save(tasks.add, self._new_tasks)
        self._save(tasks.change, changed)
        self._save(tasks.move_agents, self.changed_tasks.values())
        self._save(leases.add, self._new_leases)
        self._save(leases.renew, self._renewed.values())
        self._save(leases.close, self._closed)
        self._save(rules.add, self.new_rules)
        self._save(locks.add, self._new_locks)
        self._save(locks.lift, self._lifted)
        self._save(requests.add, self._new_records)
        self._save(explanations.add, self._new_explanations)
        if self._changed_quotas:
            quotas.put(self.connection, self._changed_quotas, self._window)
        seen = self._tasks if len(self._tasks) <= _MOST_KEPT_TASKS else {}
        return HeadState(position, seen, self._issued, self._window), Tail(self._start, position, tail)

    def remember(self) -> None:
        """Remember, once it is durable, what was recorded here: it need not be proven again."""
        self._proven.remember([*self._new_leases, *self._renewed.values()])

    def _commit_to_what_is_in_force(self, horizon: datetime) -> list[Effect]:
        """Record a commitment if it is time; return all that this transaction changes of what is in force."""
        tail: list[Effect] = [*self.new_rules, *self._new_locks, *self._adopted]
        tail += [LockLifted(lock_id) for lock_id, _ in self._lifted]
        if self._last_to_end is not None:
            tail.append(LeaseIssued(self._last_to_end))
        committed = self.in_force.committed
        if self._entries and (committed is None or self.next_index() - committed >= _COMMIT_EVERY):
            made = self.in_force.commitment(self.next_index(), horizon, tail)
            self.record(Entry(kind=Kind.STATE_COMMITTED, at=self.at, tenant="", effected=made.facts()))
            self.committed_index = made.index
            tail.append(made)
        return tail

    def _held_tasks(self, found: Mapping[str, Task]) -> Mapping[str, Task]:
        """Note which tasks are not what their entries say."""
        self._altered |= self._proven.altered(self.connection, self._start.frontier, found.values())
        active = [task for task in found.values() if task.state is TaskState.ACTIVE]
        self._altered.update(task.id for task in active if self._has_ended(task))
        return found

    def _held_leases(self, found: Collection[Lease]) -> Mapping[str, Lease]:
        """Note which leases are not what their entries say."""
        self._altered |= self._proven.altered(self.connection, self._start.frontier, found)
        return {lease.id: lease for lease in found}

    def _has_ended(self, task: Task) -> bool:
        """Report whether the ledger has ended a task that its row calls active."""
        ended = self.in_force.newest(Selector(task.tenant, Target.TASK, task.id))
        return ended is not None or task.index < self.in_force.adopted_index

    def _refuse_altered(self, what: str, record_id: str) -> None:
        if record_id in self._altered:
            raise Refusal(
                Reason.RECORD_ALTERED,
                f"the record of {what} `{record_id}` is not what the ledger says of it, so nothing is signed by it",
                Hints(next="operators: run `credbroker ledger verify`, which names what was altered"),
            )

    def _note_end(self, lease: Lease) -> None:
        if lease.expires_at > self.tokens_until:
            self.tokens_until, self._last_to_end = lease.expires_at, lease

    def _save(self, save: Callable[[Connection, Collection[T]], None], changes: Collection[T]) -> None:
        if changes:
            save(self.connection, changes)

    def _write_entries(self) -> Position:
        hashes = [tree.leaf_hash(body) for _, body in self._entries]
        grown, nodes = self._start.frontier.extend(hashes)
        ledger.append(
            self.connection,
            [
                ledger.StoredEntry(index, entry.tenant, entry.task_id, entry.kind.value, body, leaf)
                for index, ((entry, body), leaf) in enumerate(
                    zip(self._entries, hashes, strict=True), self._start.next_index
                )
            ],
            nodes,
        )
        return Position(grown, self.next_index())
