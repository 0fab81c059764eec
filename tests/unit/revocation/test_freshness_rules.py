"""The rules of `freshness`, whatever happens in whichever order: Hypothesis looks for the order that breaks them."""

from __future__ import annotations

import doctest
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from broker.revocation import freshness
from broker.revocation.barrier import Barrier, Session
from broker.revocation.freshness import Freshness
from broker.revocation.peers import PeerBarrier, Peers

WINDOW = 10.0
PATIENCE = 10.1
WHICH = st.integers(0, 1)
TENANTS = st.sampled_from(["acme", "globex", "*"])


@dataclass
class Verifier:
    """A tool server, as its broker sees it; `applied` is what it has in truth, `inbox` what is on its way."""

    broker: int
    session: Session
    index: int
    applied: set[int]
    inbox: list[tuple[int, set[int]]] = field(default_factory=list)


class Conversation(RuleBasedStateMachine):
    """One broker or two on one ledger, and two verifiers, one of all tenants, that hear, confirm, leave and come."""

    @initialize(brokers=st.integers(1, 2), spread=st.booleans())
    def begin(self, brokers: int, spread: bool) -> None:
        self.now = 1_000.0
        self.ledger: list[tuple[str, float]] = []  # the tenant of each rule, and when it was committed
        self.brokers = [Freshness(WINDOW) for _ in range(brokers)]
        self.peers = [Peers(PATIENCE) for _ in range(brokers)]
        self.looking: dict[int, float] = {}
        self.sessions: list[Verifier] = []
        self.barriers: list[tuple[Barrier, PeerBarrier]] = []
        self.dead: list[tuple[int, str]] = []
        for broker in self.brokers:
            broker.looked(self.now, -1)
        self.verifiers = [self.comes(0, "acme"), self.comes(int(spread), "*")]

    def comes(self, number: int, tenant: str) -> Verifier:
        number %= len(self.brokers)
        session = self.brokers[number].join(str(len(self.sessions)), "verifier", tenant, self.now)
        newest = self.brokers[number].newest
        assert newest is not None
        self.sessions.append(Verifier(number, session, newest, self.concerning(session)))
        return self.sessions[-1]

    def concerning(self, session: Session) -> set[int]:
        return {index for index, (tenant, _) in enumerate(self.ledger) if session.serves(tenant)}

    @rule(seconds=st.sampled_from([1.0, 3.0, 6.0, 9.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(tenant=TENANTS)
    def a_rule_is_committed(self, tenant: str) -> None:
        self.ledger.append((tenant, self.now))

    @rule(tenant=TENANTS, number=WHICH)
    def a_rule_is_committed_with_a_barrier(self, tenant: str, number: int) -> None:
        self.a_rule_is_committed(tenant)
        number, index = number % len(self.brokers), len(self.ledger) - 1
        here = self.brokers[number].barrier(index, tenant)
        self.barriers.append((here, self.peers[number].barrier(index, tenant, self.now)))
        if len(self.brokers) == 1:
            self.peers[number].read([], self.now, self.now)

    @rule(number=WHICH)
    def a_look_begins(self, number: int) -> None:
        self.looking[number % len(self.brokers)] = self.now

    @rule(number=WHICH)
    def a_look_ends(self, number: int) -> None:
        number %= len(self.brokers)
        broker, newest = self.brokers[number], len(self.ledger) - 1
        before = broker.newest
        assert before is not None
        broker.looked(self.looking.pop(number, self.now), newest)
        for verifier in self.sessions:
            news = {index for index in self.concerning(verifier.session) if index > before}
            if news and verifier.broker == number and verifier.session.connected:
                verifier.inbox.append((newest, news))

    @rule(which=WHICH)
    def it_hears(self, which: int) -> None:
        verifier = self.verifiers[which]
        if verifier.inbox:
            verifier.index, news = verifier.inbox.pop(0)
            verifier.applied |= news

    @rule(which=WHICH)
    def it_confirms(self, which: int) -> None:
        verifier = self.verifiers[which]
        self.brokers[verifier.broker].confirm(verifier.session, verifier.index, self.now)

    @rule(which=WHICH, number=WHICH)
    def it_comes_again(self, which: int, number: int) -> None:
        verifier = self.verifiers[which]
        verifier.session.connected = False
        self.brokers[verifier.broker].forget_stale(self.now)
        self.verifiers[which] = self.comes(number, verifier.session.tenant)

    @rule()
    def barriers_that_are_over_return(self) -> None:
        for waiting in list(self.barriers):
            here, elsewhere = waiting
            over = here.is_over(self.now), elsewhere.is_over(self.now)
            assert over[0] or here.next_at() > self.now
            assert over[1] or elsewhere.next_at(self.now) > self.now
            if all(over):
                self.barriers.remove(waiting)
                self.dead.append((here.index, here.tenant))

    @invariant()
    def never_fresh_beyond_the_window_after_the_first_rule_it_lacks(self) -> None:
        for verifier in getattr(self, "sessions", ()):
            lacking = self.concerning(verifier.session) - verifier.applied
            if lacking:
                assert verifier.session.fresh_until <= self.ledger[min(lacking)][1] + PATIENCE

    @invariant()
    def a_barrier_has_returned_only_when_nobody_accepts_and_nobody_does_later(self) -> None:
        for index, tenant in getattr(self, "dead", ()):
            for verifier in self.sessions:
                if verifier.session.serves(tenant) and index not in verifier.applied:
                    assert verifier.session.fresh_until <= self.now


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=400, stateful_step_count=50, deadline=None)


def test_the_session_in_the_docstring_is_true() -> None:
    failed, tried = doctest.testmod(freshness)
    assert (failed, tried) == (0, 10)
