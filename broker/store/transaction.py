"""One transaction of the ledger's writer: what changes see and write while they hold the head."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from sqlalchemy import Connection

from broker.audit import canonical, tree
from broker.audit.effects import Effect
from broker.audit.in_force import InForce
from broker.model.entry import Entry, Kind
from broker.model.errors import invalid
from broker.model.task import Task
from broker.store import ledger
from broker.store.aggregate import Aggregate, AtHead
from broker.store.announcements import Announcements
from broker.store.effects import Effects
from broker.store.explanations import Explanations
from broker.store.follower import Position, Tail
from broker.store.leases import Leases
from broker.store.locks import Locks
from broker.store.provenance import Proven
from broker.store.quotas import Quotas
from broker.store.requests import Requests
from broker.store.rules import Rules
from broker.store.tasks import Tasks

T = TypeVar("T")
A = TypeVar("A", bound=Aggregate)

_COMMIT_EVERY = 1_000  # entries: so many are replayed at a start, at the most


@dataclass(frozen=True, slots=True)
class AfterCommit(Generic[T]):
    """What comes of a change only when all of its batch is durable: a token, say.

    The makers of a batch run one after the other: signing alone keeps the curve's tables in the processor's cache.
    """

    make: Callable[[], T]


@dataclass(frozen=True, slots=True)
class Afterwards(Generic[T]):
    """What comes of a change only when it is durable, and may take its time: another look, a signature made elsewhere.

    Whoever wrote the change awaits it, when the batch is over and others are under way. It is lost with its caller:
    what must be done in any case is an effect (`store.effects`).
    """

    finish: Callable[[], Awaitable[T]]


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """Something to do at the head of the ledger.

    `run` checks its guards first, and raises `Refusal` or `Stale` before it changes anything. What it will look at is
    named here, so that a whole batch of changes is read in a handful of queries. An `urgent` change takes away: it is
    still done when the disk is full.
    """

    run: Callable[[Transaction], T | AfterCommit[T] | Afterwards[T]]
    tasks: tuple[str, ...] = ()
    leases: tuple[str, ...] = ()
    requests: tuple[tuple[str, str], ...] = ()
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class HeadState:
    """What one transaction leaves to the next: still the truth, if the ledger's head has not moved in between.

    Whoever changes a task, or issues a lease, moves the head: no other broker can have done it unseen. `counts` are of
    leases by task; `issued` counts them by tenant, in the minute `window`; `effects_due` is when the effects that were
    asked for last are due.
    """

    position: Position
    tasks: Mapping[str, Task] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    issued: Mapping[str, int] = field(default_factory=dict)
    window: int = -1
    effects_due: Mapping[str, datetime] = field(default_factory=dict)


class Stale(Exception):
    """What a change was decided on has changed meanwhile: nothing was done; decide again."""


class Transaction:
    """The state at the head of the ledger, and the changes collected so far.

    Changes run one after the other; each sees what those before it wrote. `at` is the one instant of them all. What is
    in force comes from the ledger's entries, never from a table; a record that is looked up is held against its entries
    first (`proven`).
    """

    def __init__(
        self, connection: Connection, at: datetime, state: HeadState, in_force: InForce, proven: Proven
    ) -> None:
        self.connection, self.at = connection, at
        self.in_force = in_force
        self.committed_index = in_force.committed
        self._start = state.position
        self._entries: list[tuple[Entry, bytes]] = []
        self._aggregates: list[Aggregate] = []
        head = AtHead(connection, at, state.position.frontier, in_force, proven)
        # In this order they read and write.
        self.tasks = self._with(Tasks(head, state.tasks, state.counts))
        self.quotas = self._with(Quotas(head, self.tasks, state.issued, state.window))
        self.rules = self._with(Rules(head))
        self.leases = self._with(Leases(head, self.tasks, self.quotas, self.rules))
        self.locks = self._with(Locks(head))
        self.announcements = self._with(Announcements(head))
        self.requests = self._with(Requests(head))
        self.explanations = self._with(Explanations(head))
        self.effects = self._with(Effects(head, state.effects_due))

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

    def prefetch(self, changes: Collection[Change[object]]) -> None:
        """Read what changes have named."""
        for aggregate in self._aggregates:
            aggregate.prefetch(changes)

    def write(self, horizon: datetime) -> tuple[HeadState, Tail]:
        """Write all that has changed.

        Returns what the next transaction may take for granted, and what a follower must know of this one. `horizon`:
        what nobody needs from then on may be forgotten, where it is time to commit to what is in force.
        """
        tail = self._commit_to_what_is_in_force(horizon)
        position = self._write_entries() if self._entries else self._start
        for aggregate in self._aggregates:
            aggregate.write()
        state = HeadState(position, *self.tasks.kept(), self.quotas.kept(), self.quotas.window, self.effects.kept())
        return state, Tail(self._start, position, tail)

    def committed(self) -> None:
        """Take note that it is durable."""
        for aggregate in self._aggregates:
            aggregate.committed()

    def _with(self, aggregate: A) -> A:
        self._aggregates.append(aggregate)
        return aggregate

    def _commit_to_what_is_in_force(self, horizon: datetime) -> list[Effect]:
        """Record a commitment if it is time; return all that this transaction changes of what is in force."""
        tail = [effect for aggregate in self._aggregates for effect in aggregate.tail()]
        committed = None if self.in_force.committed_in_part else self.in_force.committed
        if self._entries and (committed is None or self.next_index() - committed >= _COMMIT_EVERY):
            commitment = self.in_force.commitment(self.next_index(), horizon, tail)
            self.record(Entry(kind=Kind.STATE_COMMITTED, at=self.at, tenant="", effected=commitment.facts()))
            self.committed_index = commitment.index
            tail.append(commitment)
        return tail

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
