"""Who may accept what, and until when: the heart of "dead means dead" (law 3, docs/decisions/0006 and 0017).

A value without I/O. Revocation rules are named by the indexes of their ledger entries; instants are seconds of one
monotonic clock, and passed in. `Freshness` takes part in a conversation that others carry, and keeps these rules:

1. A look at the ledger has seen every rule that was committed before it began. So whoever has applied all that a look
   has found lacks only rules committed since it began, and may be fresh for one window from then, and no longer.
2. Whoever lacks a rule that was found lacks one committed since the look before: the same, from when that began.
3. So one window after a rule was committed nobody is fresh without it, whichever broker keeps them fresh, and whether
   that broker still reaches the database or not.
4. A verifier is on record, and then reads the rules, before it is fresh. So once a rule is committed, whoever comes has
   it, and whoever does not is on record.
5. A broker keeps nobody fresh for longer than one window from when it last began to write, with success, that it lives.
   If it was late with that, others may hold it for dead: what it looked at before counts no more.
6. A barrier on a rule waits for whom the rule concerns, of those who had come before it, until each has confirmed the
   rule or is stale (`barrier`); for those of other brokers as `peers` says.
7. Whoever had not confirmed the rule by then is made fresh again by nothing less than confirming it.
8. Clocks may run apart by one per cent: whoever waits, waits for so much longer.

A whole session: a verifier comes, a rule is committed, and its barrier returns when the verifier has confirmed it.

>>> freshness = Freshness(window=10.0)
>>> freshness.looked(began=100.0, newest=4)
>>> session = freshness.join("a session", "spiffe://example.org/tool", "acme", now=101.0)
>>> freshness.confirm(session, index=4, now=102.0)  # one window from when the look began
110.0
>>> barrier = freshness.barrier(7, "acme")  # rule 7 was committed
>>> freshness.confirm(session, index=4, now=103.5)
110.0
>>> barrier.is_over(now=103.5), barrier.next_at()  # its first window, and one per cent
(False, 111.1)
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

from broker.revocation.barrier import NEVER, Barrier, Session

FOREVER = float("inf")
_DRIFT = 0.01


@dataclass(slots=True)
class Freshness:
    """What looks at the ledger have shown, and who has confirmed what of it.

    `window` is for how long whoever looked last is believed, in seconds. `newest` is the index of the newest rule
    found, -1 if there is none, None before the first look, which `began` when it says. Beyond `ceiling` nobody is kept
    fresh: the record of who we are is not good for longer.
    """

    window: float
    newest: int | None = None
    began: float = NEVER
    ceiling: float = FOREVER
    sessions: dict[str, Session] = field(default_factory=dict)
    _barriers: set[Barrier] = field(default_factory=set)
    _missing: deque[tuple[int, float]] = field(default_factory=deque)  # who lacks this index is fresh until then
    _long_missing: int = -1  # who lacks this index is not fresh
    _floor: float = NEVER  # looks that began before this count no more

    @property
    def drift(self) -> float:
        """Return by how much longer than a window to wait for it on another clock."""
        return self.window * _DRIFT

    def looked(self, began: float, newest: int) -> None:
        """Note a look that has succeeded: when it began, and the newest rule that there is."""
        if self.newest is None or self.began < self._floor:
            self._long_missing = newest
            self._missing.clear()
        elif newest > self.newest:
            self._missing.append((newest, self.began + self.window))
        self.newest, self.began = newest, began

    def recorded(self, began: float, now: float) -> None:
        """Note that a write of who we are, which began then, has succeeded (rule 5). Before the first, nobody is."""
        if NEVER < self.ceiling <= now:
            self._floor = now
        self.ceiling = began + self.window

    def join(self, session_id: str, principal: str, tenant: str, now: float) -> Session:
        """Take a verifier in, before the rules are read for it. It counts its first window from no later than now."""
        session = Session(session_id, principal, tenant, now + self.window + self.drift)
        self.sessions[session.id] = session
        return session

    def caught_up(self, session: Session, index: int) -> None:
        """Note that what a verifier is sent first has every rule up to an index: it is not fresh before it has that."""
        session.confirmed = max(session.confirmed, index)

    def forget_stale(self, now: float) -> list[Session]:
        """Forget those who have left and are stale, and return them."""
        over = [left for left in self.sessions.values() if not left.connected and left.fresh_until <= now]
        for left in over:
            del self.sessions[left.id]
        return over

    def end(self, session: Session) -> None:
        """End a session whose verifier has confirmed in another one, here or at another broker."""
        session.connected, session.fresh_until = False, NEVER
        for barrier in self._barriers:
            barrier.ended(session)

    def fresh_until(self, index: int, now: float) -> float:
        """Return until when whoever is at an index may be fresh; NEVER, if it lacks a rule for too long."""
        while self._missing and self._missing[0][1] <= now:
            self._long_missing = self._missing.popleft()[0]
        if index < self._long_missing or self.began < self._floor:
            return NEVER
        lacking = (until for newer, until in self._missing if newer > index)
        return min(next(lacking, self.began + self.window), self.ceiling)

    def confirm(self, session: Session, index: int, now: float) -> float:
        """Take a verifier's word that it is at an index; return until when it is fresh."""
        session.confirmed = max(session.confirmed, min(index, self.newest if self.newest is not None else -1))
        for barrier in self._barriers:
            barrier.confirmed(session)
        if session.confirmed < session.owes:
            return NEVER
        until = self.fresh_until(session.confirmed, now)
        session.fresh_until = max(session.fresh_until, until + self.drift)
        return until

    def barrier(self, index: int, tenant: str) -> Barrier:
        """Begin a barrier on a rule of a tenant, which is committed; `let_go` ends it."""
        barrier = Barrier(index, tenant, self.sessions.values())
        self._barriers.add(barrier)
        return barrier

    def let_go(self, barrier: Barrier) -> None:
        """Tell a barrier of confirmations no more."""
        self._barriers.discard(barrier)

    def to_ask(self) -> set[str]:
        """Return the ids of sessions for which barriers wait that have not asked them, on rules that we have seen."""
        newest = -1 if self.newest is None else self.newest
        known = [barrier for barrier in self._barriers if barrier.index <= newest]
        return {session.id for barrier in known for session in barrier.open if session.id not in barrier.asked}

    def asked(self, session_ids: Iterable[str]) -> None:
        """Note that sessions were asked to confirm all that we have seen."""
        for barrier in self._barriers:
            if self.newest is not None and barrier.index <= self.newest:
                barrier.asked.update(session_ids)

    def any_closed(self) -> bool:
        """Report whether a barrier waits for nobody any more."""
        return any(not barrier.open for barrier in self._barriers)
