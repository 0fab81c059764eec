"""Time and ids, the two things that must be passed in. Only this module reads the system's."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]
"""Tells the present instant, as an aware UTC datetime."""

Ids = Callable[[], str]
"""Makes a fresh, unguessable id."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_RANDOM_SIZE = 10
_AT_ONCE = 256
_DOUBT = timedelta(days=1)  # by how much a clock may have been ahead when we began


def system_clock() -> datetime:
    """Read the system's clock."""
    return datetime.now(UTC)


class SurelyPast:
    """Tells an instant that is past, however the system's clock jumps while we run.

    It lags a day behind the slower of the clock and of the time that has gone by since we began.
    """

    def __init__(self, clock: Clock, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Begin now; `monotonic` counts seconds."""
        self._clock = clock
        self._monotonic = monotonic
        self._began = clock()
        self._began_at = monotonic()

    def __call__(self) -> datetime:
        """Return the instant."""
        gone_by = timedelta(seconds=self._monotonic() - self._began_at)
        return min(self._clock(), self._began + gone_by) - _DOUBT


def uuid7() -> str:
    """Make a UUID version 7 (RFC 9562 section 5.7): 48 bits of milliseconds, 74 random bits."""
    return _uuid7(os.urandom(_RANDOM_SIZE))


def uuid7_in_bulk() -> Ids:
    """Return what makes ids as `uuid7` does, but asks the system for randomness once for many. Threads may share it."""
    pool: deque[bytes] = deque()

    def make() -> str:
        while True:
            try:
                return _uuid7(pool.popleft())  # in one step: no two threads get the same
            except IndexError:
                fresh = os.urandom(_RANDOM_SIZE * _AT_ONCE)
                pool.extend(fresh[start : start + _RANDOM_SIZE] for start in range(0, len(fresh), _RANDOM_SIZE))

    return make


def _uuid7(random: bytes) -> str:
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(random)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def to_micros(instant: datetime) -> int:
    """Count microseconds since the Unix epoch, exactly. This is how instants are stored and hashed."""
    return (instant - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """Undo `to_micros`."""
    return _EPOCH + timedelta(microseconds=micros)
