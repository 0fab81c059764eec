"""How long somebody waits for an answer: a call is sent again while that helps, until its time is over.

Sent again is what names its request (`request_id`), or what does nothing twice: an answer that got lost says nothing
about what was done. That holds for a broker that restarts, a connection that breaks, a database that is away.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable, Iterator

from broker.model.errors import Reason, Refusal

AGAIN = (Reason.UNAVAILABLE, Reason.LEDGER_UNAVAILABLE)
"""What may pass by itself."""

_ATTEMPT_SECONDS = 10.0  # so that a broker which is stuck does not use all the time up
_BARRIER_SECONDS = 12.0  # in which a barrier waits out who cannot be reached
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0


def chance() -> float:
    """Draw evenly from 0 up to 1."""
    return secrets.randbelow(1 << 20) / (1 << 20)


def pauses(first: float, longest: float, draw: Callable[[], float] = chance) -> Iterator[float]:
    """Yield ever longer pauses in seconds, up to `longest`, each half as long to half as long again."""
    for number in itertools.count():
        yield min(first * 2.0 ** min(number, 30), longest) * (0.5 + draw())


def attempt_of(seconds: float, *, barrier: bool) -> float:
    """Return how long one attempt may take of a call that has so many seconds; with a `barrier`, half of them."""
    return max(seconds / 2, _BARRIER_SECONDS) if barrier else _ATTEMPT_SECONDS


class Patience:
    """The time that one call has, with all its repetitions."""

    def __init__(
        self,
        seconds: float,
        *,
        attempt: float,
        now: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = chance,
    ) -> None:
        """Begin to wait. No single attempt has more than `attempt` seconds."""
        self._now = now
        self._until = now() + seconds
        self._attempt = attempt
        self._pauses = pauses(_FIRST_PAUSE, _LONGEST_PAUSE, draw)

    def attempt(self) -> float:
        """Return the seconds that the next attempt has."""
        return max(0.0, min(self._attempt, self._until - self._now()))

    def pause(self, refusal: Refusal, *, elsewhere: bool = False) -> float | None:
        """Report how long to wait before the next attempt, in seconds; None if there is none, and the refusal holds.

        When to come again is what one broker says of itself: `elsewhere`, at another, that need not be waited for.
        """
        if refusal.reason not in AGAIN:
            return None
        seconds = max(next(self._pauses), 0 if elsewhere else refusal.hints.retry_seconds)
        return seconds if self._now() + seconds < self._until else None
