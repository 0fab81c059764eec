"""The mark: the newest head that this broker has signed or seen, kept outside the database.

It is the signed checkpoint itself, in a file beside the keys and, if so configured, in a second place. A database that
does not hold what the mark says is behind it: restored from an older backup, cut back, or another one.

The mark is written after the commit, never before: a crash in between leaves a mark that is a little behind, which
holds nobody up. It is at most a second behind on the disk; in memory `Follower` is exact.

Processes that keep one mark between them write it by turns, and none puts back what another has moved on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import structlog

from broker.audit import checkpoint
from broker.audit.checkpoint import Checkpoint
from broker.audit.note import InvalidNote, VerifierKey, verify_note
from broker.disk import files
from broker.store.ledger import LedgerMismatch

FILE = "ledger.mark"
_SECONDS = 0.5  # between two looks: with the time to write, at most a second


class Marks:
    """The places of the mark. One thread writes at a time."""

    def __init__(self, folders: Sequence[Path], key: VerifierKey) -> None:
        """Name the folders; the key is the one that signs checkpoints, whatever the ledger is called."""
        self._files = [folder / FILE for folder in folders]
        self._key = key
        self._newest = ""
        self._written = ""
        self._failing = False
        self._log = structlog.get_logger("ledger")

    @property
    def are_kept(self) -> bool:
        """Whether there is any place to keep a mark in: a tool has none."""
        return bool(self._files)

    def missing(self) -> str:
        """Say that there is no mark where there should be one."""
        places = ", ".join(str(file) for file in self._files)
        return (
            f"there is no mark of what this broker has signed in {places}, though the ledger says that one is kept. "
            "A broker that is new to the ledger is given a copy of the file of one that runs on it."
        )

    def read(self) -> Checkpoint | None:
        """Read the furthest mark of all places; None if there is none in any.

        Raises:
            LedgerMismatch: a mark cannot be read, or was not signed by our key.
        """
        marks = [mark for file in self._files if (mark := self._read(file)) is not None]
        return max(marks, key=lambda mark: mark.size, default=None)

    def write(self, note: str) -> None:
        """Write the mark now, in every place, and have it on the disk; one that is ahead of it stays.

        Raises:
            LedgerMismatch: it cannot be written.
        """
        self._newest = note
        self._write(note)

    def move(self, note: str) -> None:
        """Take a newer head, which is durable, to be written soon."""
        self._newest = note

    async def run(self) -> None:
        """Write the mark whenever it has moved, until cancelled; then once more."""
        try:
            while True:
                await asyncio.sleep(_SECONDS)
                await asyncio.to_thread(self.catch_up)
        finally:
            self.catch_up()

    def catch_up(self) -> None:
        """Write the mark if it has moved. A place that cannot be written is told of once, and tried again."""
        newest = self._newest
        if newest == self._written:
            return
        try:
            self._write(newest)
        except LedgerMismatch as error:
            if not self._failing:
                self._log.error("ledger.mark_not_written", problem=str(error))
            self._failing = True
        else:
            self._failing = False

    def _write(self, note: str) -> None:
        """Write it in every place, also if it cannot be written in another."""
        problems = [problem for file in self._files if (problem := self._advance(file, note)) is not None]
        if problems:
            raise LedgerMismatch(
                f"{'; '.join(problems)}; give the broker a folder of its own that it may write, by ledger.mark_dir"
            )
        self._written = note

    def _advance(self, file: Path, note: str) -> str | None:
        """Put a mark in the place of one that is behind it; return what keeps it from being written."""
        try:
            with files.by_turns(file.parent):
                if not self._is_ahead(file, note):
                    files.replace(file, note.encode())
        except OSError as error:
            return f"{file}: the mark of the ledger cannot be written: {error.strerror}"
        return None

    def _is_ahead(self, file: Path, note: str) -> bool:
        """Report whether a file has a newer mark of the same ledger, which another process has written."""
        try:
            there = self._read(file)
        except LedgerMismatch:
            return False
        ours = checkpoint.parse(verify_note(note, VerifierKey(note.partition("\n")[0], self._key.public)))
        return there is not None and there.origin == ours.origin and there.size > ours.size

    def _read(self, file: Path) -> Checkpoint | None:
        return read_note(file, self._key) if file.exists() else None


def read_note(file: Path, key: VerifierKey) -> Checkpoint:
    """Read a checkpoint that a key has signed, whatever the ledger was called then.

    Raises:
        LedgerMismatch: there is none in the file.
    """
    try:
        note = file.read_text(encoding="utf-8")
        return checkpoint.parse(verify_note(note, VerifierKey(note.partition("\n")[0], key.public)))
    except OSError as error:
        raise LedgerMismatch(f"{file}: cannot be read: {error.strerror}") from error
    except (InvalidNote, ValueError) as error:
        raise LedgerMismatch(
            f"{file}: is not a checkpoint signed by this broker's key ({error}): bring the file or the key back, or go "
            "on as docs/how-to/restore-a-backup.md says"
        ) from error
