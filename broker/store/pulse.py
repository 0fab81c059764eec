"""Whether a database can be written, told by how the last attempts went. Instants are seconds of a monotonic clock."""

from __future__ import annotations

from dataclasses import dataclass

PROBE_SECONDS = 1.0  # between attempts, when all is not well
_IDLE_SECONDS = 3.0  # for which what is wrong may go unnoticed, if nobody asks for anything
_SLOW_SECONDS = 3.0
_GRACE_SECONDS = 3.0  # a disk that is nearly full takes one commit and fails the next
_PAGES = 32  # of the file, one for each attempt: more than a change writes, which failed where an attempt finds room
_NEVER = float("-inf")


@dataclass(slots=True)
class Pulse:
    """How the attempts to write went, of which there is one at a time."""

    _began: float | None = None
    _ended: float = _NEVER
    _failed: float = _NEVER
    _owed: int = 0  # attempts that must go well before all is

    def begin(self, now: float) -> None:
        """Note that an attempt begins."""
        self._began = now

    def end(self, now: float, *, failed: bool) -> None:
        """Note how it went. It has failed if the database is to blame."""
        self._began, self._ended = None, now
        self._owed = _PAGES if failed else max(0, self._owed - 1)
        if failed:
            self._failed = now

    def probes(self, now: float) -> int:
        """Report how many attempts it takes to know how it is: none, if enough has been written lately."""
        wait = PROBE_SECONDS if self._owed else _IDLE_SECONDS
        return max(1, self._owed) if self._began is None and now >= self._ended + wait else 0

    def problem(self, now: float) -> str | None:
        """Return what is wrong, if something is."""
        if self._began is not None and now >= self._began + _SLOW_SECONDS:
            return "the database does not answer"
        if self._owed or now < self._failed + _GRACE_SECONDS:
            return "the database cannot be written"
        return None
