"""A history of what is in force: entries as they are recorded, at random, and the rows that tables keep of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from broker.audit.effects import AnnouncedKey, Commitment, Effect, KeysAnnounced, LeaseIssued, LockLifted
from broker.audit.in_force import InForce
from broker.model.lease import Binding, Lease
from broker.model.principal import ANY_TENANT
from broker.model.selector import Cause, Lock, RevocationRule, Selector, Target

START = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOURS = st.integers(-6, 48).map(lambda hours: timedelta(hours=hours))
LATER = st.integers(0, 48).map(lambda hours: timedelta(hours=hours))
SELECTORS = st.builds(
    Selector,
    st.sampled_from(["acme", "globex", ANY_TENANT]),
    st.sampled_from([Target.LEASE, Target.TASK]),
    st.sampled_from(["one", "two", "three"]),
)


@dataclass
class History:
    """Entries as they were recorded, with the rows that tables keep of them. A lifted lock keeps its row."""

    now: datetime = START
    state: InForce = field(default_factory=InForce)
    entries: list[Sequence[Effect]] = field(default_factory=list)
    rules: list[RevocationRule] = field(default_factory=list)
    locks: list[tuple[Lock, int | None]] = field(default_factory=list)

    @property
    def index(self) -> int:
        return len(self.entries)

    def record(self, *effects: Effect) -> None:
        self.state.apply(effects)
        self.entries.append(effects)

    def revoke(self, selector: Selector, matters: timedelta, deadline: timedelta | None) -> None:
        rule = RevocationRule(
            index=self.index,
            selector=selector,
            cause=Cause.OPERATOR,
            recorded_at=self.now,
            relevant_until=self.now + matters,
            task_deadline=None if deadline is None else self.now + deadline,
        )
        self.rules.append(rule)
        self.record(rule)

    def lock(self, selector: Selector, lasts: timedelta | None) -> None:
        expires_at = None if lasts is None else self.now + lasts
        lock = Lock(
            id=f"lock-{self.index}",
            selector=selector,
            reason="a drill",
            created_by="spiffe://example.org/operator",
            created_at=self.now,
            expires_at=expires_at,
            index=self.index,
        )
        self.locks.append((lock, None))
        self.record(lock)

    def lift(self, which: int) -> None:
        active = [place for place, (_, lifted) in enumerate(self.locks) if lifted is None]
        if active:
            place = active[which % len(active)]
            lock = self.locks[place][0]
            self.locks[place] = (lock, self.index)
            self.record(LockLifted(lock.id))

    def issue(self, lasts: timedelta) -> None:
        self.record(LeaseIssued(lease(index=self.index, expires_at=self.now + lasts)))

    def announce(self, kids: Sequence[str], withdrawn: Sequence[str]) -> None:
        key = AnnouncedKey(kid="", x="x", y="y", signs_from=self.now, until=self.now)
        self.record(KeysAnnounced(self.index, tuple(replace(key, kid=kid) for kid in kids), tuple(withdrawn)))

    def commit(self, back: timedelta, *, in_part: bool = False) -> None:
        """Commit to what is in force; or as the version before does, which knows of no keys."""
        commitment = self.state.commitment(self.index, self.now - back)
        self.record(replace(commitment, keys_index=-1, keys=None) if in_part else commitment)

    def commitment(self) -> Commitment | None:
        committed = self.state.committed
        return None if committed is None else _commitment(self.entries[committed])

    def announced(self, before: int) -> KeysAnnounced:
        """Return the last announcement before an entry."""
        effects = [effect for entry in self.entries[:before] for effect in entry]
        return [KeysAnnounced(-1), *(effect for effect in effects if isinstance(effect, KeysAnnounced))][-1]

    def rows(self, commitment: Commitment) -> tuple[list[RevocationRule], list[Lock]]:
        """Return the rows that a database has, once housekeeping has deleted what nobody needs."""
        at, horizon = commitment.index, commitment.horizon
        rules = [rule for rule in self.rules if rule.index < at and rule.kept_until > horizon]
        locks = [
            lock
            for lock, lifted in self.locks
            if lock.index < at and (lifted is None or lifted > at) and lock.is_active(horizon)
        ]
        return rules, locks


def lease(*, index: int, expires_at: datetime) -> Lease:
    return Lease(
        id=f"lease-{index}",
        tenant="acme",
        task_id="task",
        holder="spiffe://example.org/agent",
        resource="https://repo.example",
        grants=(),
        binding=Binding.IDENTITY,
        issued_at=START,
        expires_at=expires_at,
        max_expires_at=expires_at,
        decision_id="",
        policies=(),
        policy_revision="",
        index=index,
    )


def _commitment(entry: Sequence[Effect]) -> Commitment:
    (found,) = (effect for effect in entry if isinstance(effect, Commitment))
    return found


KIDS = st.sampled_from(["k1", "k2", "k3"])
STEPS: st.SearchStrategy[Callable[[History], None]] = st.one_of(
    st.builds(lambda s, m, d: lambda h: h.revoke(s, m, d), SELECTORS, HOURS, st.none() | LATER),
    st.builds(lambda s, m: lambda h: h.lock(s, m), SELECTORS, st.none() | LATER),
    st.builds(lambda which: lambda h: h.lift(which), st.integers(0, 9)),
    st.builds(lambda lasts: lambda h: h.issue(lasts), HOURS),
    st.builds(lambda back, part: lambda h: h.commit(back, in_part=part), HOURS, st.booleans()),
    st.builds(lambda kids, gone: lambda h: h.announce(kids, gone), st.frozensets(KIDS), st.frozensets(KIDS)),
    st.builds(lambda by: lambda h: setattr(h, "now", h.now + by), HOURS),  # clocks go backwards, too
)


@st.composite
def histories(draw: st.DrawFn) -> History:
    history = History()
    for step in draw(st.lists(STEPS, max_size=40)):
        step(history)
    return history
