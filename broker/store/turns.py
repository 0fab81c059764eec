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

_NEXT, _NOW = 0, 1  # bytes of a file that has none: locks need no more


class Turns:
    """The turns of a process and of those that it forks, each of which takes them in one thread at a time.

    They are locks on a file without a name, so that nobody opens it by chance: who closes a file loses its locks.
    """

    def __init__(self) -> None:
        """Make turns of which nobody has any."""
        with tempfile.TemporaryFile() as file:
            self._descriptor = os.dup(file.fileno())  # for as long as the process lives

    def take(self) -> None:
        """Wait for a turn. It may be long: this is for threads."""
        self._lock(_NEXT, fcntl.LOCK_EX)
        try:
            self._lock(_NOW, fcntl.LOCK_EX)
        finally:
            self._lock(_NEXT, fcntl.LOCK_UN)

    def leave(self) -> None:
        """Give the turn back."""
        self._lock(_NOW, fcntl.LOCK_UN)

    def _lock(self, byte: int, what: int) -> None:
        fcntl.lockf(self._descriptor, what, 1, byte)
