"""Who may accept what, and until when: the arithmetic behind the feed and its barriers (law 3, docs/decisions/0006).

Pure: instants are passed in, as seconds of one monotonic clock. What it rests on:

1. A look that began at an instant has seen every rule that was committed before it. So whoever has applied all that a
   look has found lacks only rules committed since it began, and may be fresh for one window from then, and no longer.
2. Whoever lacks a rule that was found lacks one committed since the look before: the same, from when that began.
3. So one window after a rule was committed nobody is fresh without it, whichever broker keeps them fresh, and whether
   that broker still reaches the database or not.
4. A verifier that watches reads the rules after it has come. Once a rule is committed, whoever comes has it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from broker.model.principal import ANY_TENANT

NEVER = float("-inf")


@dataclass(slots=True, eq=False)
class Session:
    """One verifier. `confirmed` is the index of the last rule that it says it has applied.

    Its `fresh_until` is never less than what the verifier itself goes by. Confirming less than it `owes` makes it fresh
    for no time: a barrier has returned, and said that it does not accept what that rule covers.
    """

    id: str
    principal: str
    tenant: str
    fresh_until: float = NEVER
    confirmed: int = -1
    owes: int = -1
    connected: bool = True

    def serves(self, tenant: str) -> bool:
        """Report whether a rule of a tenant concerns this verifier."""
        return self.tenant == ANY_TENANT or tenant in (self.tenant, ANY_TENANT)

    def accepts(self, index: int, now: float) -> bool:
        """Report whether it may still accept what the rule at an index covers: it is fresh, and has not confirmed."""
        return self.confirmed < index and self.fresh_until > now


@dataclass(slots=True)
class Looks:
    """What looking at the rules has shown. `newest` is the index of the newest rule found, -1 if there is none.

    Whoever looked last is believed for one `window`, in seconds.
    """

    window: float
    newest: int | None = None
    began: float = NEVER
    _missing: deque[tuple[int, float]] = field(
        default_factory=deque
    )  # who lacks this index is fresh until then at most
    _long_missing: int = -1

    def looked(self, began: float, newest: int) -> None:
        """Note a look that has succeeded: when it began, and the newest rule that there is."""
        if self.newest is None:
            self._long_missing = newest
        elif newest > self.newest:
            self._missing.append((newest, self.began + self.window))
        self.newest, self.began = newest, began

    def fresh_until(self, index: int, now: float) -> float:
        """Report until when whoever is at an index may be fresh."""
        while self._missing and self._missing[0][1] <= now:
            self._long_missing = self._missing.popleft()[0]
        if index < self._long_missing:
            return NEVER
        lacking = (until for newer, until in self._missing if newer > index)
        return next(lacking, self.began + self.window)

    def confirm(self, session: Session, index: int, now: float) -> float:
        """Take a verifier's word that it is at an index; tell until when it is fresh."""
        session.confirmed = max(session.confirmed, min(index, self.newest if self.newest is not None else -1))
        if session.confirmed < session.owes:
            return NEVER
        until = self.fresh_until(session.confirmed, now)
        session.fresh_until = max(session.fresh_until, until)
        return until


@dataclass(frozen=True, slots=True)
class Receipt:
    """Who had confirmed, and who refuses by itself, when the wait of a barrier was over."""

    confirmed: int
    stale: int


class Barrier:
    """The wait until nobody can accept what the rule at `index` covers.

    It concerns whom the rule concerns, of those who may be fresh without having read it: who comes later reads it.
    """

    def __init__(self, index: int, tenant: str, sessions: Iterable[Session]) -> None:
        """Begin, when the rule is committed."""
        self.index = index
        self._concerned = [session for session in sessions if session.serves(tenant) and session.fresh_until > NEVER]

    def waits_for(self, now: float) -> list[Session]:
        """Return those who may still accept it."""
        return [session for session in self._concerned if session.accepts(self.index, now)]

    def over(self) -> Receipt:
        """End the wait, when there is nobody to wait for: who has not confirmed by now is not made fresh without."""
        stale = [session for session in self._concerned if session.confirmed < self.index]
        for session in stale:
            session.owes = max(session.owes, self.index)
        return Receipt(len(self._concerned) - len(stale), len(stale))
