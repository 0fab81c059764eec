"""A reserve for a full disk: a file beside a SQLite file, given up so that what takes away can still be recorded.

When a commit fails for lack of room, the file is removed, and its room is for changes that are `urgent` alone:
revocations, ends of tasks and locks. All others are refused until there is room for the file again. A PostgreSQL has a
disk of its own, and no reserve of ours.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from broker.store.database import UNAVAILABLE, Database
from broker.store.failures import is_full

_SUFFIX = ".reserve"
_SIZE = 8 << 20  # a hundred transactions at least, of up to 512 changes each: each writes some 50 KiB ahead
_SHARE = 4  # a small disk gives no more than this part of what is free
_PIECE = 1 << 20
_PAUSE_SECONDS = 1.0  # between attempts to have it back that fail although the disk says that it has room: a quota


def free_bytes(folder: Path) -> int:
    """Report how much room there is on the disk of a folder."""
    return shutil.disk_usage(folder).free


class Reserve:
    """The reserve of a broker. Its methods are for one thread at a time; all but `give_up` may wait for the disk."""

    def __init__(
        self, database: Path | None, free: Callable[[Path], int] = free_bytes, *, shared: bool = False
    ) -> None:
        """Make the reserve of a SQLite file; `None`: there is none. `free` tells how much room a folder's disk has.

        If it is `shared`, any process that shares it may give it up for all: whether it is there tells.
        """
        self._database = database
        self._shared = shared
        self._free_bytes = free
        self._file = None if database is None else database.with_name(database.name + _SUFFIX)
        self._size = 0
        self._tried_at = float("-inf")
        self._log = structlog.get_logger("reserve")
        self._spent = False

    @property
    def is_spent(self) -> bool:
        """Report whether it was given up, so that its room is for what is urgent."""
        if self._shared and self._file is not None:
            self._spent = not self._file.exists()
        return self._spent

    @classmethod
    def beside(cls, database: Database, free: Callable[[Path], int] = free_bytes) -> Reserve:
        """Make the reserve of a database."""
        path = None if database.is_remote else database.engine.url.database
        reserve = cls(None if path is None else Path(os.path.realpath(path)), free, shared=database.is_shared)
        reserve._prepare()
        return reserve

    def give_up(self, error: Exception) -> bool:
        """Remove the reserve, if a failure means that the disk is full; report whether to try again."""
        if self._file is None or self._spent or not is_full(error):
            return False
        self._spent = True
        self._file.unlink(missing_ok=True)
        self._log.critical("reserve.given_up", file=str(self._file), bytes=self._size)
        return True

    def regain(self, database: Database) -> bool:
        """Make the reserve again, if there is room; else save room for who may write. Report whether it is back."""
        if self._file is None or not self.is_spent:
            return True
        now = time.monotonic()
        if self._free() >= 2 * self._size and now >= self._tried_at + _PAUSE_SECONDS:
            self._tried_at = now
            self._spent = not self._make()
        if self._spent:
            self._reuse_log(database)
        else:
            self._log.warning("reserve.regained", file=str(self._file), bytes=self._size)
        return not self._spent

    def _prepare(self) -> None:
        """Take the file that a former life has left, if it is large enough."""
        if self._file is None:
            return
        there = self._file.stat().st_size if self._file.exists() else 0
        self._size = max(there, min(_SIZE, (self._free() + there) // _SHARE))
        if there < self._size and not self._make():
            self._log.warning("reserve.none", file=str(self._file), bytes=self._size)

    def _free(self) -> int:
        assert self._file is not None  # noqa: S101 (whoever asks has looked)
        return self._free_bytes(self._file.parent)

    def _make(self) -> bool:
        """Write the file, of bytes that no file system can compress; report whether there was room."""
        assert self._file is not None  # noqa: S101 (whoever asks has looked)
        try:
            with self._file.open("wb") as file:
                for start in range(0, self._size, _PIECE):
                    file.write(os.urandom(min(_PIECE, self._size - start)))
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            self._file.unlink(missing_ok=True)
            return False
        return True

    def _reuse_log(self, database: Database) -> None:
        """Let SQLite write its log from the start again, if what is in it fits into the database file."""
        assert self._database is not None  # noqa: S101 (whoever asks has looked)
        with suppress(*UNAVAILABLE), database.engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            page_size = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
            if pages * page_size - self._database.stat().st_size <= self._free() // 2:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")
