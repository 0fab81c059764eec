"""The ledger's writer: it takes all changes that wait, and commits them in one transaction at the ledger's head.

The order is the design (docs/decisions/0003):

1. take every change that waits, what is urgent first (`queues`);
2. begin, and lock the head: brokers that share the database queue here;
3. run the changes: guards, then records, with consecutive indexes;
4. write them, extend the tree, sign the checkpoint;
5. commit: before this nobody has learnt anything, after it everything is durable;
6. sign what may now be released, and tell the callers.

Steps 2 to 5 are the committer's. A crash before 5 leaves nothing; after it, a recorded lease whose token nobody holds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

import structlog
from sqlalchemy import Connection

from broker.audit.in_force import InForce
from broker.audit.note import NoteSigner
from broker.model.clock import Clock
from broker.model.entry import Entry
from broker.model.errors import Hints, Reason, Refusal
from broker.model.lease import Lease
from broker.store import failures, ledger
from broker.store.committer import Ask, Committed, Committer
from broker.store.database import UNAVAILABLE, Database, refusal_of
from broker.store.follower import Follower
from broker.store.ledger import LedgerMismatch
from broker.store.marks import Marks
from broker.store.pulse import PROBE_SECONDS, Pulse
from broker.store.queues import Queues, Waiting
from broker.store.refusal_counts import RefusalCounts, Refused
from broker.store.reserve import Reserve
from broker.store.transaction import AfterCommit, Afterwards, Change

T = TypeVar("T")

_AGAIN = "try again in a moment"


class Writer:
    """The one way to change anything. It lives on the event loop, and lets a thread of its own do the waiting."""

    def __init__(
        self,
        database: Database,
        origin: str,
        signer: NoteSigner,
        clock: Clock,
        committed: Callable[[Committed], None],
        reserve: Reserve | None = None,
        follower: Follower | None = None,
        marks: Marks | None = None,
        asks: Sequence[Ask] = (),
    ) -> None:
        """Make a writer; `committed` is called on the event loop after each commit. Without `marks` none are kept."""
        self._follower = follower or Follower(signer.vkey)
        self._marks = marks or Marks((), signer.vkey)
        self._database = database.apart("ledger-writer")
        self._committer = Committer(self._database, origin, signer, clock, self._follower, self._marks, asks)
        self._committed = committed
        self._reserve = reserve or Reserve(None)
        self._queues = Queues()
        self._counts = RefusalCounts()
        self._counting: asyncio.TimerHandle | None = None
        self._counts_are_due = False
        self._wake = asyncio.Event()
        self._stopping = False
        self._writing: asyncio.Task[None] | None = None
        self._pulse = Pulse()
        self._log = structlog.get_logger("ledger")

    def start(self) -> asyncio.Task[None]:
        """Start writing, for callers on the running event loop; return what writes, which ends when it is told to stop.

        Raises:
            Refusal: LEDGER_UNAVAILABLE, if the database cannot be reached.
            LedgerMismatch: the database holds another ledger, or a damaged one.
        """
        try:
            self._committer.open()
        except UNAVAILABLE as error:
            raise failures.unavailable(f"the ledger cannot be opened: {failures.cause(error)}") from error
        self._writing = asyncio.create_task(self._run(), name="ledger-writer")
        return self._writing

    async def stop(self) -> None:
        """Finish what waits, then stop. A database that fails meanwhile is not waited for a second time."""
        self._stopping = True
        self._record_counts()
        if self._writing is not None:
            await asyncio.wait([self._writing])
        if self._counting is not None:
            self._counting.cancel()
        self._marks.catch_up()
        self._committer.let_go()
        self._database.close()

    def problem(self) -> str | None:
        """Return what is wrong, if nothing can be written now, or only what takes away."""
        return "the disk is full" if self._reserve.is_spent else self._pulse.problem(time.monotonic())

    async def probe(self) -> None:
        """Write something that changes nothing whenever nothing else is written, so that `problem` tells what is so."""
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            with suppress(Refusal):
                for _ in range(self._pulse.probes(time.monotonic())):
                    await self.write(Change(lambda transaction: ledger.touch(transaction.connection)))

    async def write(self, change: Change[T]) -> T:
        """Do a change, and return when it is durable.

        Raises:
            Refusal, Stale: what the change's guards raise; LEDGER_UNAVAILABLE; UNAVAILABLE, if too many wait already.
        """
        if self._stopping or self._queues.is_full(change):  # type: ignore[arg-type]
            raise Refusal(
                Reason.UNAVAILABLE,
                "the broker is shutting down" if self._stopping else "too many requests wait for the ledger",
                Hints(next=_AGAIN, retry_seconds=0 if self._stopping else 1),
            )
        waiting = self._queues.add(change)  # type: ignore[arg-type]
        self._wake.set()
        outcome = await waiting
        return await outcome.finish() if isinstance(outcome, Afterwards) else outcome  # type: ignore[return-value]

    def recall(self, lease_id: str) -> Lease | None:
        """Return a lease as it was last recorded or proven here: to decide upon, not to act on."""
        return self._committer.proven.lease(lease_id)

    def heard_of(self, index: int) -> None:
        """Take it for proven that the entry at an index was signed: without it nothing more is."""
        self._follower.heard_of(index)

    def follow(self, connection: Connection) -> InForce:
        """Follow the ledger to where a connection sees its head, before it has read anything; return what is in force.

        Raises:
            LedgerMismatch: it is not the ledger that we have signed, or is behind it.
        """
        self._follower.catch_up(connection)
        return self._follower.in_force

    async def write_refusal(self, entry: Entry) -> None:
        """Record a refusal, and return when it is durable; or, in a flood of them, when it is counted.

        Raises:
            Refusal: LEDGER_UNAVAILABLE.
        """
        change: Change[object] = Change(lambda transaction: transaction.record(entry))
        waiting = None if self._stopping else self._queues.add_refusal(change)
        if waiting is None:
            self.count_refusal(entry)
            return
        self._wake.set()
        await waiting

    def count_refusal(self, entry: Entry) -> None:
        """Count a refusal instead of recording it. The sums are recorded after a while, or when the writer stops."""
        self._counts.add(Refused.of(entry))
        if self._counting is None:
            loop = asyncio.get_running_loop()
            self._counting = loop.call_later(self._counts.pause(loop.time()), self._record_counts)

    def _record_counts(self) -> None:
        self._counts_are_due = True
        self._wake.set()

    async def _run(self) -> None:
        """Write until told to stop. However that ends, nobody is left waiting."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while (batch := await self._next_batch()) or self._counts_are_due:
                    await self._commit(batch)
                    self._queues.served(batch)
                self._database.leave_turn()
                if self._stopping:
                    return
        finally:
            self._stopping = True
            self._tell_all(Refusal(Reason.UNAVAILABLE, "the broker is shutting down", Hints(next=_AGAIN)))

    async def _next_batch(self) -> list[Waiting]:
        """1. Take what waits when it is our turn: whoever comes until then is in it."""
        await self._queues.gather()
        if self._queues or self._counts_are_due:
            await self._database.wait_for_turn()
        return self._queues.take()

    async def _commit(self, batch: list[Waiting]) -> None:
        """Commit a batch, and tell the callers. If one change of many is at fault, it fails alone."""
        if self._reserve.is_spent and not (batch := await self._affordable(batch)):
            self._take_counts()
            return
        self._pulse.begin(time.monotonic())
        counted = self._take_counts()
        try:
            committed, outcomes = await self._committer.commit([waiting.change for waiting in batch], counted)
        except Exception as error:  # noqa: BLE001 (whatever a change did, the writer must live on)
            await self._failed(batch, error)
        else:
            # Durable, and nobody has been told. After a crash here, whoever asks again with the same request_id gets
            # what was recorded; whoever ends or revokes does it once more.
            self._pulse.end(time.monotonic(), failed=False)
            self._counts.recorded(counted)
            try:
                if committed.rules or committed.tasks:
                    self._committed(committed)
            finally:
                _tell(batch, outcomes)

    async def _affordable(self, batch: list[Waiting]) -> list[Waiting]:
        """On a full disk, refuse what must leave the reserve alone."""
        self._committer.let_go()  # it is the only connection, and the log is to begin anew
        if await self._database.run(partial(self._reserve.regain, self._database)):
            return batch
        others = [waiting for waiting in batch if not waiting.change.urgent]
        _tell(others, [failures.full()] * len(others))
        return [waiting for waiting in batch if waiting.change.urgent]

    async def _failed(self, batch: list[Waiting], error: Exception) -> None:
        refusal = error.refusal() if isinstance(error, LedgerMismatch) else refusal_of(error)
        self._pulse.end(time.monotonic(), failed=refusal is not None)
        if any(waiting.change.urgent for waiting in batch) and self._reserve.give_up(error):
            # The file is gone. A crash here leaves its room to anybody: a start makes a smaller one of what is left.
            await self._commit(batch)
        elif refusal is not None:
            cause = failures.cause(error)
            self._log.error("ledger.unavailable", error=type(error).__name__, cause=cause, changes=len(batch))
            _tell(batch, [refusal] * len(batch))
            if self._stopping:
                self._tell_all(refusal)
        elif len(batch) > 1:
            for waiting in batch:
                await self._commit([waiting])
        else:
            self._log.error("ledger.change_failed", exc_info=error)
            _tell(batch, [error] * len(batch))

    def _tell_all(self, refusal: Refusal) -> None:
        """Refuse everything that waits."""
        waiting = self._queues.take_all()
        _tell(waiting, [refusal] * len(waiting))

    def _take_counts(self) -> Mapping[Refused, int]:
        """Take the sums that are due. They stay until they are durable; if that fails, the next count sees to them."""
        if not self._counts_are_due:
            return {}
        self._counts_are_due, self._counting = False, None
        return self._counts.so_far()


def _tell(batch: Sequence[Waiting], outcomes: Sequence[object]) -> None:
    """6. Make what had to wait for the commit, then tell the callers."""
    results = [_made(outcome) for outcome in outcomes]
    for waiting, outcome in zip(batch, results, strict=True):
        if waiting.future.done():
            continue
        if isinstance(outcome, Exception):
            waiting.future.set_exception(outcome)
        else:
            waiting.future.set_result(outcome)


def _made(outcome: object) -> object:
    if not isinstance(outcome, AfterCommit):
        return outcome
    try:
        return outcome.make()
    except Exception as error:  # noqa: BLE001 (it is the caller's, and the others want theirs)
        return error
