"""How often something may be done: a few times at once, and then once more each so often."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta


class Allowance:
    """A bound on a rate, as one instant: the one at which all that has been taken will have been given back (GCRA)."""

    def __init__(self, at_once: int, every: timedelta, monotonic: Callable[[], float]) -> None:
        """Allow so many at once, and one more after each span. `monotonic` is a clock in seconds."""
        self._every = every.total_seconds()
        self._ahead = (at_once - 1) * self._every
        self._monotonic = monotonic
        self._whole_at = float("-inf")

    def take(self) -> float:
        """Take one, and give 0; if there is none, return the seconds until there is one."""
        now = self._monotonic()
        whole_at = max(self._whole_at, now)
        if whole_at - now > self._ahead:
            return whole_at - now - self._ahead
        self._whole_at = whole_at + self._every
        return 0.0
