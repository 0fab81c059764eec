"""Whether calls are let in: until the broker stops, and then none, while those under way go on."""

from __future__ import annotations

from broker.model.errors import Hints, Reason, Refusal

_RETRY_SECONDS = 1  # by then it listens no longer, and whoever calls its address is led to another, or waits for it


class Turnstile:
    """Lets calls in until it is closed. `refused` are those that came later."""

    __slots__ = ("_closed", "refused")

    def __init__(self) -> None:
        """Begin open."""
        self.refused = 0
        self._closed = False

    def close(self) -> None:
        """Let nobody in from now on."""
        self._closed = True

    def check(self) -> None:
        """Refuse a call that comes too late.

        Raises:
            Refusal: UNAVAILABLE.
        """
        if self._closed:
            self.refused += 1
            raise Refusal(
                Reason.UNAVAILABLE,
                "the broker is shutting down, and has not begun with the call",
                Hints(
                    next=f"ask another broker, or again in {_RETRY_SECONDS} second, with the same request_id or token",
                    retry_seconds=_RETRY_SECONDS,
                ),
            )
