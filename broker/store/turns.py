"""Turns at writing to a SQLite file that several processes share: whoever waits comes before whoever has just been.

SQLite itself lets those who wait ask again after a while, so that whoever writes one batch after the other keeps all
others out. Here they wait in the kernel, in two steps. Whoever has the first is next at the second, and whoever has
just written must take the first again. The locks are of fcntl(2): whatever ends a process, SIGKILL too, gives its turn
back, and SQLite then undoes what was not committed.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import suppress

_NEXT, _NOW = 0, 1  # bytes of a file that has none: locks need no more


class Turns:
    """The turns of a process and of those that it forks, each of which takes them in one thread at a time.

    They are locks on a file without a name, so that nobody opens it by chance: who closes a file loses its locks.
    """

    def __init__(self) -> None:
        """Make turns of which nobody has any."""
        with tempfile.TemporaryFile() as file:
            self._descriptor = os.dup(file.fileno())  # for as long as the process lives
        self._holder: int | None = None  # this process, or the one that it is a fork of

    def take(self) -> None:
        """Wait for a turn, if we have none. It may be long: this is for threads."""
        self._take(fcntl.LOCK_EX)

    def take_at_once(self) -> bool:
        """Take a turn if nobody has one or waits for it; report whether we have one."""
        with suppress(BlockingIOError):
            self._take(fcntl.LOCK_EX | fcntl.LOCK_NB)
        return self._holder == os.getpid()

    def leave(self) -> None:
        """Give the turn back, if we have one."""
        self._holder = None
        self._lock(_NOW, fcntl.LOCK_UN)

    def _take(self, how: int) -> None:
        if self._holder == os.getpid():
            return
        self._lock(_NEXT, how)
        try:
            self._lock(_NOW, how)
            self._holder = os.getpid()
        finally:
            self._lock(_NEXT, fcntl.LOCK_UN)

    def _lock(self, byte: int, what: int) -> None:
        fcntl.lockf(self._descriptor, what, 1, byte)
