"""Copy the newest checkpoint to a second place, at most once a minute: what a database that is lost is held against."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta
from functools import partial
from pathlib import Path

from broker.audit import checkpoint
from broker.audit.note import VerifierKey
from broker.disk import files
from broker.store import proofs
from broker.store.database import Database
from broker.store.effects import OutsideEffect
from broker.store.ledger import Head
from broker.store.marks import read_note
from broker.store.transaction import Transaction

KIND = "checkpoint.copy"
FILE = "checkpoint"
THREAD = "checkpoint-copy"
_EVERY = timedelta(minutes=1)


def ask(transaction: Transaction) -> None:
    """Ask for a copy, in a transaction that records something, unless one comes that will have it."""
    if not transaction.effects.is_coming(KIND):
        transaction.effects.add(
            OutsideEffect(
                id=KIND,
                kind=KIND,
                payload={"index": transaction.next_index() - 1},  # of an entry that the copy must be beyond
                due_at=transaction.at + _EVERY,
            )
        )


class CopyFailed(Exception):
    """A copy was not made. The message says why, and what to do."""


class CheckpointCopy:
    """The copy in a folder: a file, which is whole at any time and never goes back."""

    def __init__(self, folder: Path, database: Database, key: VerifierKey) -> None:
        """Copy to a folder the checkpoints of a database, which a key signs."""
        self._file = folder / FILE
        self._database = database
        self._key = key
        self._writing: Future[None] | None = None

    async def do(self, _effect: OutsideEffect) -> None:
        """Copy the newest checkpoint. It takes as long as the place takes; who waits no longer leaves it behind.

        Raises:
            CopyFailed, LedgerMismatch: there is something else in its place; or the copy before still hangs.
            OSError: it cannot be written.
            Refusal: LEDGER_UNAVAILABLE.
        """
        if self._writing is not None and not self._writing.done():
            raise CopyFailed(f"{self._file}: the write before still hangs; see whether its file system answers")
        head = await self._database.read(proofs.newest_head)
        self._writing = _in_own_thread(partial(self._write, head))
        await asyncio.wrap_future(self._writing)

    def _write(self, head: Head) -> None:
        if self._file.exists():
            there = read_note(self._file, self._key)
            if there.origin == head.origin and there.size > head.frontier.size:
                raise CopyFailed(
                    f"{self._file}: has {there.size} entries, and the database {head.frontier.size}: the database is "
                    "behind, or other brokers copy to the same file; see docs/how-to/restore-a-backup.md"
                )
            if there == checkpoint.Checkpoint(head.origin, head.frontier.size, head.frontier.root()):
                return
        files.replace(self._file, head.note.encode(), files.PUBLIC)


def _in_own_thread(step: Callable[[], None]) -> Future[None]:
    """Run something that may hang for ever, in a thread that holds up neither others nor the end of the process."""
    future: Future[None] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            step()
        except BaseException as error:  # noqa: BLE001 (it is raised where the future is awaited)
            future.set_exception(error)
        else:
            future.set_result(None)

    threading.Thread(target=run, name=THREAD, daemon=True).start()
    return future
