"""Law 3 in a model: brokers, verifiers and messages in any order, and no clock but one that is moved."""

from __future__ import annotations

import random  # noqa: TID251 (with a seed: what failed fails again)
from dataclasses import dataclass, field

import pytest

from broker.revocation.barrier import NEVER, Barrier, Session
from broker.revocation.freshness import Freshness
from broker.revocation.peers import PeerBarrier, Peers

WINDOW = 10.0
PATIENCE = 10.1
TENANTS = ("acme", "globex")


@dataclass
class Verifier:
    """A tool server: what it has applied, and until when it believes that this is enough."""

    tenant: str
    applied: set[int] = field(default_factory=set)
    index: int = -1
    fresh_until: float = NEVER
    broker: Broker | None = None
    session: Session | None = None
    called: float = NEVER  # when it sent its call to watch
    caught_up: tuple[int, set[int]] | None = None
    inbox: list[tuple[int, set[int]]] = field(default_factory=list)
    asking: tuple[Session, int, float] | None = None  # a confirmation on its way
    answer: tuple[float, float] | None = None  # when it was sent, and for how long that keeps it fresh


@dataclass
class Broker:
    looks: Freshness = field(default_factory=lambda: Freshness(WINDOW))
    peers: Peers = field(default_factory=lambda: Peers(PATIENCE))
    listeners: dict[str, Verifier] = field(default_factory=dict)
    began: float | None = None
    seen: int | None = None
    waiting: list[tuple[Barrier, PeerBarrier]] = field(default_factory=list)


class Model:
    """All that may happen, step by step."""

    def __init__(self, brokers: int) -> None:
        self.now = 1_000.0
        self.ledger: list[str] = []  # the tenants of the rules, by index
        self.dead: list[tuple[int, str]] = []
        self.names = 0
        self.brokers = [Broker() for _ in range(brokers)]
        self.verifiers = [Verifier("acme"), Verifier("*"), Verifier("globex")]
        for broker in self.brokers:
            broker.looks.looked(self.now, -1)
        for who in range(len(self.verifiers)):
            self.all_of_a_watch(who, who)

    def step(self, chance: random.Random) -> None:
        """Let something happen."""
        who, number = chance.randrange(len(self.verifiers)), chance.randrange(len(self.brokers))
        steps = [
            (6, lambda: self.time_passes(chance.choice([1.0, 4.0, 9.0, 11.0]))),
            (1, lambda: self.a_rule_is_committed(chance.choice(TENANTS))),
            (2, lambda: self.a_barrier_begins(number, chance.choice(TENANTS))),
            (5, self.barriers_return),
            (3, lambda: self.all_of_a_look(number)),
            (2, lambda: self.all_of_a_watch(who, number)),
            (4, lambda: self.all_of_a_confirmation(who)),
            (1, lambda: self.a_look_begins(number)),
            (1, lambda: self.a_look_reads(number)),
            (1, lambda: self.a_look_fails(number)),
            (1, lambda: self.a_look_ends(number)),
            (1, lambda: self.a_verifier_calls(who, number)),
            (1, lambda: self.its_call_arrives(who)),
            (1, lambda: self.its_snapshot_is_read(who)),
            (3, lambda: self.it_hears(who)),
            (1, lambda: self.it_confirms(who)),
            (1, lambda: self.its_confirmation_arrives(who)),
            (1, lambda: self.it_hears_the_answer(who)),
        ]
        weights, actions = zip(*steps, strict=True)
        chance.choices(actions, weights)[0]()

    # Whole exchanges, which take no time; below are their steps, between which anything may happen.

    def all_of_a_look(self, number: int) -> None:
        self.a_look_begins(number)
        self.a_look_reads(number)
        self.a_look_ends(number)

    def all_of_a_watch(self, who: int, number: int) -> None:
        self.a_verifier_calls(who, number)
        self.its_call_arrives(who)
        self.its_snapshot_is_read(who)
        self.it_hears(who)

    def all_of_a_confirmation(self, who: int) -> None:
        self.it_confirms(who)
        self.its_confirmation_arrives(who)
        self.it_hears_the_answer(who)

    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    def a_rule_is_committed(self, tenant: str) -> None:
        self.ledger.append(tenant)

    def a_barrier_begins(self, number: int, tenant: str) -> None:
        self.ledger.append(tenant)
        broker = self.brokers[number % len(self.brokers)]
        index = len(self.ledger) - 1
        broker.waiting.append((broker.looks.barrier(index, tenant), broker.peers.barrier(index, tenant, self.now)))
        if len(self.brokers) == 1:
            broker.peers.read([], self.now, self.now)

    def barriers_return(self) -> None:
        for broker in self.brokers:
            for waiting in list(broker.waiting):
                here, elsewhere = waiting
                if here.is_over(self.now) and elsewhere.is_over(self.now):
                    broker.waiting.remove(waiting)
                    broker.looks.let_go(here)
                    self.dead.append((here.index, here.tenant))

    def a_look_begins(self, number: int) -> None:
        broker = self.brokers[number % len(self.brokers)]
        broker.began, broker.seen = self.now, None

    def a_look_reads(self, number: int) -> None:
        broker = self.brokers[number % len(self.brokers)]
        if broker.began is not None:
            broker.seen = len(self.ledger)

    def a_look_fails(self, number: int) -> None:
        self.brokers[number % len(self.brokers)].began = None

    def a_look_ends(self, number: int) -> None:
        broker = self.brokers[number % len(self.brokers)]
        if broker.began is None or broker.seen is None:
            return
        before = broker.looks.newest
        assert before is not None
        broker.looks.looked(broker.began, broker.seen - 1)
        found = range(before + 1, broker.seen)
        broker.began = broker.seen = None
        for session in broker.looks.sessions.values():
            mine = {index for index in found if session.serves(self.ledger[index])}
            if mine and session.connected:
                broker.listeners[session.id].inbox.append((found[-1], mine))

    def a_verifier_calls(self, who: int, number: int) -> None:
        verifier = self.verifiers[who]
        if verifier.session is not None:
            verifier.session.connected = False
        verifier.session, verifier.caught_up, verifier.inbox = None, None, []
        verifier.broker, verifier.called = self.brokers[number % len(self.brokers)], self.now

    def its_call_arrives(self, who: int) -> None:
        verifier = self.verifiers[who]
        broker = verifier.broker
        if broker is None or verifier.session is not None:
            return
        self.names += 1
        session = broker.looks.join(str(self.names), "verifier", verifier.tenant, self.now)
        verifier.session = session
        broker.listeners[session.id] = verifier
        assert broker.looks.newest is not None
        verifier.inbox = [(broker.looks.newest, {-1})]  # the snapshot goes before all else, and is read later

    def its_snapshot_is_read(self, who: int) -> None:
        verifier = self.verifiers[who]
        if verifier.inbox and verifier.inbox[0][1] == {-1}:
            mine = {index for index, tenant in enumerate(self.ledger) if verifier.tenant in (tenant, "*")}
            verifier.inbox[0] = (verifier.inbox[0][0], mine | {-2})

    def it_hears(self, who: int) -> None:
        verifier = self.verifiers[who]
        if not verifier.inbox or verifier.inbox[0][1] == {-1}:
            return
        index, found = verifier.inbox.pop(0)
        if -2 in found:
            verifier.applied, verifier.fresh_until = set(), verifier.called + WINDOW
        verifier.applied |= found
        verifier.index = index

    def it_confirms(self, who: int) -> None:
        verifier = self.verifiers[who]
        if verifier.session is not None and not (verifier.inbox and min(verifier.inbox[0][1], default=0) < 0):
            verifier.asking = (verifier.session, verifier.index, self.now)

    def its_confirmation_arrives(self, who: int) -> None:
        verifier = self.verifiers[who]
        if verifier.asking is None or verifier.broker is None:
            return
        session, index, sent = verifier.asking
        verifier.asking = None
        if session.connected:
            until = verifier.broker.looks.confirm(session, index, self.now)
            verifier.answer = (sent, max(0.0, until - self.now))

    def it_hears_the_answer(self, who: int) -> None:
        verifier = self.verifiers[who]
        if verifier.answer is not None:
            sent, seconds = verifier.answer
            verifier.answer = None
            verifier.fresh_until = sent + seconds

    def check(self) -> None:
        """When a barrier has returned, nobody whom its rule concerns accepts what it covers."""
        for index, tenant in self.dead:
            for verifier in self.verifiers:
                if verifier.tenant in (tenant, "*") and index not in verifier.applied:
                    assert self.now >= verifier.fresh_until, (index, verifier)


@pytest.mark.parametrize("brokers", [1, 2])
def test_whatever_happens_when_a_barrier_has_returned_nobody_accepts_what_its_rule_covers(brokers: int) -> None:
    for seed in range(3_000):
        chance, model = random.Random(seed), Model(brokers)
        for _ in range(40):
            model.step(chance)
            model.check()
