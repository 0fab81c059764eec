"""How many calls may be in progress at once: of each audience, and of strangers from one address.

Each audience has a lane of its own, so that however many agents call, operators, orchestrators and verifiers have room.
A lane is earned: who has not been authenticated yet counts against its address, whatever it calls. What is beyond a
bound does not wait: it is refused at once, and told when to come again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType, TracebackType

from broker.access.entrances import AGENTS, ANYBODY, Entrance
from broker.model.errors import Hints, Reason, Refusal
from broker.model.principal import Role

_MOST_OF_AGENTS = 1_024  # which keep the ledger's writer as busy as it can be
_MOST_OF_OTHERS = 4_096
_MOST_STRANGERS = 256
_RETRY_SECONDS = 1


class Lane:
    """The calls of one audience: entered by each when it is authenticated, and left when it is answered."""

    __slots__ = ("_in_progress", "_most", "_whose")

    def __init__(self, whose: str, most: int) -> None:
        """Begin without calls."""
        self._whose = whose
        self._most = most
        self._in_progress = 0

    def check(self) -> None:
        """Refuse a call that would not be let in now, before anything is done for it.

        Raises:
            Refusal: UNAVAILABLE.
        """
        if self._in_progress >= self._most:
            raise _busy(f"the broker has as many calls of {self._whose} in progress as it takes")

    def __enter__(self) -> None:
        """Let a call in; otherwise as `check`."""
        self.check()
        self._in_progress += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let a call go."""
        self._in_progress -= 1


class Lanes:
    """The lanes of all doors together."""

    def __init__(self) -> None:
        """Make a lane for each audience, and one for what is for anybody."""
        self._lanes: Mapping[str, Lane] = MappingProxyType(
            {whose: Lane(whose, _MOST_OF_AGENTS if whose is AGENTS else _MOST_OF_OTHERS) for whose in (*Role, ANYBODY)}
        )

    def of(self, entrance: Entrance) -> Lane:
        """Return the lane of who calls by an entrance."""
        return self._lanes[entrance.caller]


class Strangers:
    """Calls that wait until it is known who calls: for the keys of an issuer, or for the ledger."""

    def __init__(self) -> None:
        """Begin without calls."""
        self._waiting: Counter[str] = Counter()

    @contextmanager
    def waiting(self, address: str) -> Iterator[None]:
        """Let a call from an address wait for the time of a block.

        Raises:
            Refusal: UNAVAILABLE, if too many from there do.
        """
        if self._waiting[address] >= _MOST_STRANGERS:
            raise _busy("too many calls from this address wait to be authenticated")
        self._waiting[address] += 1
        try:
            yield
        finally:
            self._waiting[address] -= 1
            if not self._waiting[address]:
                del self._waiting[address]


def _busy(what: str) -> Refusal:
    again = f"try again in {_RETRY_SECONDS} second, with the same request_id or token"
    return Refusal(Reason.UNAVAILABLE, what, Hints(next=again, retry_seconds=_RETRY_SECONDS))
