"""Copy the newest checkpoint to a second place, at most once a minute: what a database that is lost is held against."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from broker.audit.checkpoint import Checkpoint
from broker.audit.note import VerifierKey
from broker.disk import files
from broker.store import opening
from broker.store.database import Database
from broker.store.effects import OutsideEffect
from broker.store.ledger import LedgerMismatch
from broker.store.marks import read_note
from broker.store.transaction import Transaction

T = TypeVar("T")

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
    """The copy in a folder: a file, which is whole at any time, and replaced by nothing but what goes on from it."""

    def __init__(self, folder: Path, database: Database, key: VerifierKey) -> None:
        """Copy to a folder the checkpoints of a database, which a key signs."""
        self._file = folder / FILE
        self._database = database
        self._key = key
        self._waiting: Future[Any] | None = None

    async def do(self, _effect: OutsideEffect) -> None:
        """Copy the newest checkpoint. It takes as long as the place takes; who waits no longer leaves it behind.

        Raises:
            CopyFailed, LedgerMismatch: there is something else in its place; or the copy before still hangs.
            OSError: it cannot be written.
            Refusal: LEDGER_UNAVAILABLE.
        """
        if self._waiting is not None and not self._waiting.done():
            raise CopyFailed(f"{self._file}: the write before still hangs; see whether its file system answers")
        there = await self._apart(self._read)
        try:
            head = await self._database.read(lambda connection: opening.head_beyond(connection, there))
        except LedgerMismatch as error:  # which the file proves, and nothing else
            raise CopyFailed(f"{self._file}: stays, since the database does not go on from it: {error}") from error
        if there != Checkpoint(head.origin, head.frontier.size, head.frontier.root()):
            await self._apart(partial(self._replace, there, head.note))

    def _read(self) -> Checkpoint | None:
        return read_note(self._file, self._key) if self._file.exists() else None

    def _replace(self, there: Checkpoint | None, note: str) -> None:
        if self._read() != there:
            raise CopyFailed(f"{self._file}: another broker has copied to it meanwhile")
        files.replace(self._file, note.encode(), files.PUBLIC)

    async def _apart(self, step: Callable[[], T]) -> T:
        """Do something that may hang for ever in a thread of its own, and only one such thing at a time."""
        self._waiting = future = _in_own_thread(step)
        return await asyncio.wrap_future(future)


def _in_own_thread(step: Callable[[], T]) -> Future[T]:
    """Run something that may hang for ever, in a thread that holds up neither others nor the end of the process."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(step())
        except BaseException as error:  # noqa: BLE001 (it is raised where the future is awaited)
            future.set_exception(error)

    threading.Thread(target=run, name=THREAD, daemon=True).start()
    return future
