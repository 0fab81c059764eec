"""Time and ids, which are passed in wherever they are needed. `broker.system` has the system's."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]
"""Returns the present instant, as an aware UTC datetime."""

Ids = Callable[[], str]
"""Makes a fresh, unguessable id."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DOUBT = timedelta(days=1)  # by how much a clock may have been ahead when we began


class SurelyPast:
    """Returns an instant that is past, however the system's clock jumps while we run.

    It lags a day behind the slower of the clock and of the time that has gone by since we began.
    """

    def __init__(self, clock: Clock, monotonic: Callable[[], float]) -> None:
        """Begin now; `monotonic` counts seconds."""
        self._clock = clock
        self._monotonic = monotonic
        self._began = clock()
        self._began_at = monotonic()

    def __call__(self) -> datetime:
        """Return the instant."""
        gone_by = timedelta(seconds=self._monotonic() - self._began_at)
        return min(self._clock(), self._began + gone_by) - _DOUBT


def to_micros(instant: datetime) -> int:
    """Count microseconds since the Unix epoch, exactly. This is how instants are stored and hashed."""
    return (instant - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """Undo `to_micros`."""
    return _EPOCH + timedelta(microseconds=micros)
