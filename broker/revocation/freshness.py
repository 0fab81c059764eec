"""Who may accept what, and until when: the heart of "dead means dead" (law 3, docs/decisions/0006).

A value without I/O. Revocation rules are named by the indexes of their ledger entries; instants are seconds of one
monotonic clock, and passed in. `Freshness` takes part in a conversation that others carry, and keeps these rules:

1. A look at the ledger has seen every rule that was committed before it began. So whoever has applied all that a look
   has found lacks only rules committed since it began, and may be fresh for one window from then, and no longer.
2. Whoever lacks a rule that was found lacks one committed since the look before: the same, from when that began.
3. So one window after a rule was committed nobody is fresh without it, whichever broker keeps them fresh, and whether
   that broker still reaches the database or not.
4. A verifier reads the rules after it has come. So once a rule is committed, whoever comes has it.
5. A barrier on a rule waits for whom the rule concerns, of those who had come before it, until each has confirmed the
   rule or is stale; and for whoever it cannot know, at other brokers or of this broker's former life, one window.
6. Whoever had not confirmed the rule by then is made fresh again by nothing less than confirming it.

A whole session: a verifier comes, a rule is committed, and its barrier returns when the verifier has confirmed it.

>>> freshness = Freshness(window=10.0, born=80.0)
>>> freshness.looked(began=100.0, newest=4)
>>> session = freshness.join("a session", "spiffe://example.org/tool", "acme", now=101.0)
>>> freshness.confirm(session, index=4, now=102.0)  # one window from when the look began
110.0
>>> barrier = freshness.barrier(7, "acme", now=103.0)  # rule 7 was committed
>>> freshness.confirm(session, index=4, now=103.5)
110.0
>>> barrier.is_over(now=103.5), barrier.next_at(now=103.5)
(False, 111.0)
>>> freshness.looked(began=104.0, newest=7)
>>> freshness.confirm(session, index=7, now=104.5)
114.0
>>> barrier.is_over(now=104.5), barrier.receipt()
(True, Receipt(confirmed=1, stale=0))
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from broker.model.principal import ANY_TENANT

NEVER = float("-inf")


@dataclass(slots=True, eq=False)
class Session:
    """One verifier that watches, or has watched.

    `confirmed` is the index of the last rule that it says it has applied. Its `fresh_until` is never less than what the
    verifier itself goes by. Confirming less than it `owes` makes it fresh for no time (rule 6).
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
class Freshness:
    """What looks at the ledger have shown, and who has confirmed what of it.

    `window` is for how long whoever looked last is believed, in seconds; `born` is when this broker began. `newest` is
    the index of the newest rule found, -1 if there is none, None before the first look, which `began` when it says.
    """

    window: float
    born: float = NEVER
    newest: int | None = None
    began: float = NEVER
    sessions: dict[str, Session] = field(default_factory=dict)
    _missing: deque[tuple[int, float]] = field(default_factory=deque)  # who lacks this index is fresh until then
    _long_missing: int = -1  # who lacks this index is not fresh

    def looked(self, began: float, newest: int) -> None:
        """Note a look that has succeeded: when it began, and the newest rule that there is."""
        if self.newest is None:
            self._long_missing = newest
        elif newest > self.newest:
            self._missing.append((newest, self.began + self.window))
        self.newest, self.began = newest, began

    def behind(self, now: float) -> float:
        """Return for how many seconds no look has succeeded."""
        return now - max(self.began, self.born)

    def join(self, session_id: str, principal: str, tenant: str, now: float) -> Session:
        """Take a verifier in, before the rules are read for it. It counts its first window from no later than now."""
        session = Session(session_id, principal, tenant, now + self.window)
        self.sessions[session.id] = session
        return session

    def leave(self, session: Session, now: float) -> None:
        """Note that a verifier watches no more. Whoever has left is forgotten once it is stale."""
        session.connected = False
        for left in [left for left in self.sessions.values() if not left.connected and left.fresh_until <= now]:
            del self.sessions[left.id]

    def fresh_until(self, index: int, now: float) -> float:
        """Return until when whoever is at an index may be fresh; NEVER, if it lacks a rule for too long."""
        while self._missing and self._missing[0][1] <= now:
            self._long_missing = self._missing.popleft()[0]
        if index < self._long_missing:
            return NEVER
        lacking = (until for newer, until in self._missing if newer > index)
        return next(lacking, self.began + self.window)

    def confirm(self, session: Session, index: int, now: float) -> float:
        """Take a verifier's word that it is at an index; return until when it is fresh."""
        session.confirmed = max(session.confirmed, min(index, self.newest if self.newest is not None else -1))
        if session.confirmed < session.owes:
            return NEVER
        until = self.fresh_until(session.confirmed, now)
        session.fresh_until = max(session.fresh_until, until)
        return until

    def barrier(self, index: int, tenant: str, now: float, *, alone: bool = True) -> Barrier:
        """Begin a barrier on a rule of a tenant, which is committed. `alone`: no other broker has verifiers."""
        return Barrier(index, tenant, self.sessions.values(), (self.born if alone else now) + self.window)


@dataclass(frozen=True, slots=True)
class Receipt:
    """Who had confirmed, and who refuses by itself, when the wait of a barrier was over."""

    confirmed: int
    stale: int


class Barrier:
    """The wait until nobody can accept what the rule at `index` covers."""

    def __init__(self, index: int, tenant: str, sessions: Iterable[Session], strangers_until: float = NEVER) -> None:
        """Begin, when the rule is committed. Whoever is not among the `sessions` is stale at `strangers_until`."""
        self.index = index
        self._concerned = [session for session in sessions if session.serves(tenant) and session.fresh_until > NEVER]
        self._strangers_until = strangers_until

    def waits_for(self, now: float) -> list[Session]:
        """Return those who may still accept it."""
        return [session for session in self._concerned if session.accepts(self.index, now)]

    def is_over(self, now: float) -> bool:
        """Report whether nobody can accept it any more."""
        return now >= self._strangers_until and not self.waits_for(now)

    def next_at(self, now: float) -> float:
        """Return when to look again, if nobody confirms before: somebody is stale then. It must not be over."""
        ends = [session.fresh_until for session in self.waits_for(now)]
        return min([*ends, self._strangers_until] if now < self._strangers_until else ends)

    def receipt(self) -> Receipt:
        """End the wait, when it is over: who has not confirmed by now is not made fresh without (rule 6)."""
        stale = [session for session in self._concerned if session.confirmed < self.index]
        for session in stale:
            session.owes = max(session.owes, self.index)
        return Receipt(len(self._concerned) - len(stale), len(stale))
