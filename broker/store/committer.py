"""Steps 2 to 5 of the ledger's writer: a batch of changes, in one transaction at the ledger's head."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from broker.audit.note import NoteSigner
from broker.audit.tree import Frontier
from broker.model.clock import Clock, SurelyPast
from broker.model.errors import Refusal
from broker.model.selector import RevocationRule
from broker.model.task import Task
from broker.store import failures, ledger, opening, refusal_counts
from broker.store.database import Database, using
from broker.store.follower import Follower, Tail
from broker.store.marks import Marks
from broker.store.provenance import Proven
from broker.store.refusal_counts import Refused
from broker.store.sqlite import WouldWait
from broker.store.transaction import Change, HeadState, Stale, Transaction

Ask = Callable[[Transaction], None]
"""Asks, in a transaction that records something, for effects that follow from any."""


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit has changed that others keep copies of."""

    rules: Sequence[RevocationRule]
    tasks: Mapping[str, Task]


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A transaction that wants only to be committed, and what follows from it then."""

    transaction: Transaction
    outcomes: list[object]
    state: HeadState
    tail: Tail


class Committer:
    """Commits batches, one after the other. `follower` and `proven` learn of each what its entries say."""

    def __init__(
        self,
        database: Database,
        origin: str,
        signer: NoteSigner,
        clock: Clock,
        follower: Follower,
        marks: Marks,
        asks: Sequence[Ask],
    ) -> None:
        """Commit to a database that has one thread, for nobody else. `asks`: what each batch that records is for."""
        self.follower, self.proven = follower, Proven()
        self._database = database
        self._origin = origin
        self._signer = signer
        self._clock = clock
        self._horizon = SurelyPast(clock, time.monotonic)
        self._marks = marks
        self._asks = asks
        self._state: HeadState | None = None
        self._kept: Connection | None = None  # over which a file is written, from one batch to the next

    def open(self) -> None:
        """Find the ledger, or start it.

        Raises:
            LedgerMismatch: the database holds another ledger, or a damaged one.
        """
        opening.open_ledger(self._database, self._origin, self._signer, self._clock, self.follower, self._marks)

    def let_go(self) -> None:
        """Close the connection that is kept from one batch to the next, if one is."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()

    async def commit(
        self, changes: Sequence[Change[object]], counted: Mapping[Refused, int]
    ) -> tuple[Committed, list[object]]:
        """Do changes, and record sums of refusals; return what came of each change when all are durable."""
        state, self._state = self._state, None  # if this fails, the next batch reads afresh
        prepare = partial(self._prepare, state, changes, counted)
        if self._database.is_remote:
            prepared = await self._database.run(partial(self._do_all, prepare))
        else:
            prepared = await self._do_in_file(prepare)
        # Durable. A crash from here on leaves leases whose tokens nobody holds: the same request_id gets them anew, or
        # they expire. Verifiers hear of new rules from whichever broker reads the ledger next. Effects are due.
        self.follower.apply(prepared.tail)
        if prepared.tail.note:
            # A crash here leaves a mark that is behind: the next start finds that the ledger goes on from it.
            self._marks.move(prepared.tail.note)
        prepared.transaction.committed()
        self._state = prepared.state
        transaction = prepared.transaction
        return Committed(transaction.rules.new, transaction.tasks.changed), prepared.outcomes

    def _do_all(self, prepare: Callable[[Connection], _Prepared]) -> _Prepared:
        """Do steps 2 to 5 in the thread. On a server each statement is a wait."""
        connection = self._database.begin()
        # The head is not held yet. A crash frees it, as soon as the server notices.
        try:
            prepared = prepare(connection)
        except BaseException as error:
            _undo(connection, error)
            raise
        _finish(connection)
        connection.close()
        return prepared

    async def _do_in_file(self, prepare: Callable[[Connection], _Prepared]) -> _Prepared:
        """Do steps 2 to 5, and let the thread wait for a lock that is another's, and for the disk.

        What changes do with a file is over sooner than two threads could take turns.
        """
        kept, self._kept = self._kept, None
        try:
            connection = self._database.begin(kept) if kept else await self._database.run(self._database.begin)
        except WouldWait:
            connection = await self._database.run(self._database.begin)
        # The file's one lock is held. A crash frees it.
        try:
            prepared = prepare(connection)
        except BaseException as error:
            await self._database.run(partial(_undo, connection, error))
            raise
        # Written and signed, and nothing is durable. A crash here leaves nothing: the signature has left nobody's hand.
        await self._database.run(partial(self._finish_in_file, connection))
        return prepared

    def _finish_in_file(self, connection: Connection) -> None:
        """5. Commit, and keep the connection. Where others write to the file, it is their turn."""
        _finish(connection)
        self._kept = connection
        self._database.leave_turn()

    def _prepare(
        self,
        state: HeadState | None,
        changes: Sequence[Change[object]],
        counted: Mapping[Refused, int],
        connection: Connection,
    ) -> _Prepared:
        """Do steps 2 to 4, but for beginning."""
        known = None if state is None else state.position.frontier
        state = self._at_head(ledger.lock_head(connection, known), state, connection)
        transaction = Transaction(connection, self._clock(), state, self.follower.in_force, self.proven)
        transaction.prefetch(changes)
        outcomes = [_outcome(change, transaction) for change in changes]
        for entry in refusal_counts.entries(counted, transaction.at):
            transaction.record(entry)
        if transaction.next_index() != state.position.next_index:
            for ask in self._asks:
                ask(transaction)
        state, tail = transaction.write(self._horizon())
        if tail.start == tail.end:
            return _Prepared(transaction, outcomes, state, tail)
        head = opening.signed_head(self._origin, self._signer, tail.end, transaction.committed_index)
        ledger.advance(connection, tail.start.frontier.size, head)
        return _Prepared(transaction, outcomes, state, Tail(tail.start, tail.end, tail.effects, head.note))

    def _at_head(self, head: Frontier, state: HeadState | None, connection: Connection) -> HeadState:
        """Return what we know at a head; if others have moved it, follow them first.

        Raises:
            LedgerMismatch: the ledger is not the one that we have signed, or is behind it.
        """
        if state is None or state.position.frontier is not head:
            self.follower.follow(connection)
            state = HeadState(self.follower.position)
        self.follower.refuse_behind()
        return state


def _undo(connection: Connection, error: BaseException) -> None:
    """Roll a transaction back."""
    with suppress(type(error)), using(connection):
        raise error


def _finish(connection: Connection) -> None:
    """5. Commit."""
    try:
        failures.commit(connection)
    except BaseException as error:
        _undo(connection, error)
        raise


def _outcome(change: Change[object], transaction: Transaction) -> object:
    """3. Run a change; a refusal is an outcome like any other, and leaves nothing behind."""
    before = transaction.next_index()
    try:
        return change.run(transaction)
    except (Refusal, Stale) as refusal:
        if transaction.next_index() != before:
            msg = "a change refused after it had recorded something"
            raise RuntimeError(msg) from refusal
        return refusal
