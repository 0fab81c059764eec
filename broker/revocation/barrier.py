"""A barrier: the wait until none of one broker's verifiers can accept what a rule covers. Values without I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from broker.model.principal import ANY_TENANT

NEVER = float("-inf")


@dataclass(slots=True, eq=False)
class Session:
    """One verifier that watches, or has watched.

    `confirmed` is the index of the last rule that it says it has applied. Its `fresh_until` is never less than what the
    verifier itself goes by. Confirming less than it `owes` makes it fresh for no time. `secret_hash` is of what shows,
    in a session to come, that it is the same verifier; `former` is the session that ends when this one has confirmed.
    """

    id: str
    principal: str
    tenant: str
    fresh_until: float = NEVER
    confirmed: int = -1
    owes: int = -1
    connected: bool = True
    secret_hash: bytes = b""
    former: str = ""

    def serves(self, tenant: str) -> bool:
        """Report whether a rule of a tenant concerns this verifier."""
        return concerns(tenant, self.tenant)

    def accepts(self, index: int, now: float) -> bool:
        """Report whether it may still accept what the rule at an index covers: it is fresh, and has not confirmed."""
        return self.confirmed < index and self.fresh_until > now


def concerns(rule_tenant: str, tenant: str) -> bool:
    """Report whether a rule of a tenant concerns verifiers of a tenant."""
    return tenant == ANY_TENANT or rule_tenant in (tenant, ANY_TENANT)


@dataclass(frozen=True, slots=True)
class Receipt:
    """Who had confirmed, and who refuses by itself, when the wait of a barrier was over."""

    confirmed: int
    stale: int

    def __add__(self, other: Receipt) -> Receipt:
        """Sum up what two brokers have seen."""
        return Receipt(self.confirmed + other.confirmed, self.stale + other.stale)


class Barrier:
    """The wait for the sessions of one broker. It is told who confirms, so that each confirmation costs one step."""

    def __init__(self, index: int, tenant: str, sessions: Iterable[Session]) -> None:
        """Begin, when the rule is committed: of those who are here now, wait for whom it concerns."""
        self.index, self.tenant = index, tenant
        self._concerned = [session for session in sessions if session.serves(tenant) and session.fresh_until > NEVER]
        self.open = {session for session in self._concerned if session.confirmed < index}
        self.asked: set[str] = set()  # the sessions that were asked to confirm
        self._next = NEVER  # before this instant none of them is stale

    def confirmed(self, session: Session) -> None:
        """Note that a verifier has confirmed something."""
        if session.confirmed >= self.index:
            self.open.discard(session)

    def ended(self, session: Session) -> None:
        """Note that a session has ended: its verifier accepts nothing by it."""
        self.open.discard(session)

    def waits_for(self, now: float) -> list[Session]:
        """Return those who may still accept it."""
        return [session for session in self.open if session.accepts(self.index, now)]

    def is_over(self, now: float) -> bool:
        """Report whether none of them can accept it any more. Whoever is stale by now is not made fresh without it."""
        if self.open and now >= self._next:
            waiting = set(self.waits_for(now))
            for session in self.open - waiting:
                session.owes = max(session.owes, self.index)
            self.open = waiting
            self._next = self.next_at()
        return not self.open

    def next_at(self) -> float:
        """Return when to look again, if nobody confirms before: somebody may be stale then. It must not be over."""
        return min((session.fresh_until for session in self.open), default=NEVER)

    def so_far(self, now: float) -> Receipt:
        """Count who has confirmed or is stale, when it is not over."""
        confirmed = sum(session.confirmed >= self.index for session in self._concerned)
        return Receipt(confirmed, len(self._concerned) - confirmed - len(self.waits_for(now)))

    def receipt(self) -> Receipt:
        """Count who had confirmed and who was stale, when it is over."""
        confirmed = sum(session.confirmed >= self.index for session in self._concerned)
        return Receipt(confirmed, len(self._concerned) - confirmed)
