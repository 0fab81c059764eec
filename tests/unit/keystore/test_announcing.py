"""What brokers announce to each other: every key that signs, has signed or will, and none that was withdrawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.audit.canonical import MAX_BODY, encode
from broker.audit.effects import MOST_WITHDRAWN, AnnouncedKey, KeysAnnounced
from broker.credential.keys import EcSigner, PublicKey
from broker.keystore.announcing import MOST_ANNOUNCED, Own, Rotation, announce, gone, good
from broker.keystore.keyring import KeyLife, Keyring
from broker.model.entry import Entry, Kind
from broker.model.errors import Reason, Refusal

START = datetime(2030, 1, 1, 12, tzinfo=UTC)
SPREAD = timedelta(seconds=10)
ROTATION = Rotation(every=timedelta(hours=10), lead=timedelta(hours=1), longest=timedelta(hours=2), spread=SPREAD)
POOL = [EcSigner.generate().public_key() for _ in range(12)]
NOTHING = KeysAnnounced(-1)


def ring(*keys: PublicKey, at: datetime = START, withdrawn: tuple[str, ...] = ()) -> Own:
    return Own(Keyring(tuple(KeyLife(key.kid, at) for key in keys), withdrawn), keys)


def say(before: KeysAnnounced, own: Own, at: datetime = START, past: datetime | None = None) -> KeysAnnounced | None:
    return announce(before, own, ROTATION, before.index + 1, at, past or at)


def said(before: KeysAnnounced, own: Own, at: datetime = START) -> KeysAnnounced:
    return say(before, own, at) or before


@dataclass
class Broker:
    """A broker: its keyring, and the halves of its keys that others may know."""

    keyring: Keyring
    public: dict[str, PublicKey]

    @property
    def own(self) -> Own:
        return Own(self.keyring, [self.public[life.kid] for life in self.keyring.lives])

    def signing(self, announced: KeysAnnounced, at: datetime) -> str | None:
        """Return what it signs with: the last of its announced keys whose turn has come and which all have."""
        turns = {key.kid: key.signs_from for key in announced.keys}
        begun = [
            life.kid for life in self.keyring.lives if life.kid in turns and max(life.signs_from, turns[life.kid]) <= at
        ]
        return begun[-1] if begun else None


@dataclass
class Ledger:
    """Brokers that come, rotate, sign, withdraw and go on one ledger, and what was announced in it."""

    now: datetime = START
    announced: KeysAnnounced = NOTHING
    brokers: list[Broker] = field(default_factory=list)
    pool: list[PublicKey] = field(default_factory=lambda: list(POOL))
    signed: list[tuple[str, datetime]] = field(default_factory=list)  # by which key, and when the token ends
    withdrawn: list[str] = field(default_factory=list)
    first_announced: dict[str, datetime] = field(default_factory=dict)

    def come(self) -> None:
        if self.pool:
            key = self.pool.pop()
            self.brokers.append(Broker(Keyring((KeyLife(key.kid, self.now),)), {key.kid: key}))
            self.settle(len(self.brokers) - 1)

    def settle(self, which: int) -> None:
        """Do what a broker does every few seconds: announce, and delete what is dead."""
        if not self.brokers:
            return
        broker = self.brokers[which % len(self.brokers)]
        self.announced = said(self.announced, broker.own, self.now)
        for key in self.announced.keys:
            self.first_announced.setdefault(key.kid, self.now)
        dead = gone(broker.keyring, self.announced, self.now, ROTATION.longest + SPREAD)
        broker.keyring = replace(broker.keyring.without(dead), withdrawn=())

    def rotate(self, which: int, lead: timedelta) -> None:
        if self.brokers and self.pool:
            broker, key = self.brokers[which % len(self.brokers)], self.pool.pop()
            broker.public[key.kid] = key
            broker.keyring = broker.keyring.with_next(key.kid, self.now + lead)
            self.settle(which)

    def sign(self, which: int) -> None:
        if self.brokers:
            kid = self.brokers[which % len(self.brokers)].signing(self.announced, self.now)
            if kid is not None:
                self.signed.append((kid, self.now + ROTATION.longest))

    def replace(self, which: int) -> None:
        """Withdraw all keys of a broker, as its operator does."""
        if self.brokers and self.pool:
            broker, key = self.brokers[which % len(self.brokers)], self.pool.pop()
            kids = [life.kid for life in broker.keyring.lives]
            broker.public[key.kid] = key
            broker.keyring = replace(broker.keyring.withdrawing(kids), lives=(KeyLife(key.kid, self.now),))
            self.withdrawn += kids
            self.settle(which)

    def pass_time(self, by: timedelta) -> None:
        """Let time pass in steps in which every broker is there."""
        until = self.now + by
        while self.now < until:
            self.now = min(until, self.now + ROTATION.every / 4)
            for which in range(len(self.brokers)):
                self.settle(which)


WHICH = st.integers(0, 5)
Step = Callable[[Ledger], None]
STEPS: st.SearchStrategy[Step] = st.one_of(
    st.just(Ledger.come),
    st.builds(lambda which: lambda ledger: ledger.settle(which), WHICH),
    st.builds(
        lambda which, lead: lambda ledger: ledger.rotate(which, lead),
        WHICH,
        st.sampled_from([timedelta(), SPREAD, ROTATION.lead]),
    ),
    st.builds(lambda which: lambda ledger: ledger.sign(which), WHICH),
    st.builds(lambda which: lambda ledger: ledger.replace(which), WHICH),
    st.builds(
        lambda by: lambda ledger: ledger.pass_time(by),
        st.sampled_from([timedelta(seconds=1), SPREAD, timedelta(hours=1), timedelta(hours=3), timedelta(hours=30)]),
    ),
)


@given(st.lists(STEPS, min_size=10, max_size=60))
def test_what_signed_a_living_token_is_announced_to_all_and_nothing_that_was_withdrawn(
    steps: list[Callable[[Ledger], None]],
) -> None:
    ledger = Ledger()
    for step in steps:
        step(ledger)
        kids = {key.kid for key in ledger.announced.keys}
        assert not kids & {*ledger.withdrawn}
        assert {*ledger.announced.withdrawn} == {*ledger.withdrawn}
        alive = {kid for kid, ends in ledger.signed if ends >= ledger.now} - {*ledger.withdrawn}
        assert alive <= kids
        for key in ledger.announced.keys:
            assert key.until >= ledger.now + ROTATION.longest, "whoever is there renews it before"


@given(st.lists(STEPS, max_size=40))
def test_a_key_signs_only_when_all_have_had_it_for_long_enough_but_for_the_first(
    steps: list[Callable[[Ledger], None]],
) -> None:
    ledger = Ledger()
    for step in steps:
        step(ledger)
        first = min(ledger.first_announced.values(), default=START)
        for kid, ends in ledger.signed:
            announced = ledger.first_announced[kid]
            assert announced == first or ends - ROTATION.longest >= announced + SPREAD


def test_where_no_key_is_announced_the_first_signs_at_once_and_those_of_the_next_broker_wait() -> None:
    one = said(NOTHING, ring(POOL[0]))
    assert [key.signs_from for key in one.keys] == [START]
    both = said(one, ring(POOL[1]))
    assert {key.kid: key.signs_from for key in both.keys} == {POOL[0].kid: START, POOL[1].kid: START + SPREAD}
    assert both.index == one.index + 1


def test_what_is_announced_is_not_announced_again() -> None:
    one = said(NOTHING, ring(POOL[0]))
    assert say(one, ring(POOL[0])) is None
    assert say(said(one, ring(POOL[1])), ring(POOL[0])) is None


def test_a_key_that_never_signs_on_leaves_by_itself_and_one_that_does_stays() -> None:
    both = said(said(NOTHING, ring(POOL[0])), ring(POOL[1]))
    renewed, now = both, START
    while now <= both.keys[0].until:
        now += timedelta(hours=1)
        renewed = said(renewed, ring(POOL[0]), now)
    assert [key.kid for key in renewed.keys] == [POOL[0].kid]
    assert renewed.keys[0].until > now


def test_a_broker_whose_clock_is_ahead_takes_no_key_from_the_others() -> None:
    both = said(said(NOTHING, ring(POOL[0])), ring(POOL[1]))
    ahead = START + timedelta(days=60)
    after = say(both, ring(POOL[1]), ahead, past=START - timedelta(days=1))
    assert after is not None
    assert {key.kid for key in after.keys} == {POOL[0].kid, POOL[1].kid}
    assert {key.signs_from for key in after.keys} == {key.signs_from for key in both.keys}, "and it signs on"


def test_a_withdrawn_key_is_not_announced_by_the_broker_that_still_has_it() -> None:
    both = said(said(NOTHING, ring(POOL[0])), ring(POOL[1]))
    withdrawn = said(both, ring(POOL[1], withdrawn=(POOL[0].kid,)))
    assert [key.kid for key in withdrawn.keys] == [POOL[1].kid]
    assert say(withdrawn, ring(POOL[0])) is None
    assert good(withdrawn, START) == [*withdrawn.keys]


def test_as_many_as_may_be_announced_and_remembered_fit_into_an_entry() -> None:
    keys = tuple(
        AnnouncedKey(kid=f"{n:043}", x="x" * 43, y="y" * 43, signs_from=START, until=START + timedelta(days=36_500))
        for n in range(MOST_ANNOUNCED - 1)
    )
    before = KeysAnnounced(2**53 - 1, keys, tuple(f"w{n:042}" for n in range(MOST_WITHDRAWN)))
    full = said(before, ring(POOL[0], withdrawn=("w" * 43,)))
    assert (len(full.keys), len(full.withdrawn)) == (MOST_ANNOUNCED, MOST_WITHDRAWN)
    assert full.withdrawn[-1] == "w" * 43
    body = encode(Entry(kind=Kind.KEYS_ROTATED, at=START, tenant="", effected=full.facts()))
    assert len(body) <= MAX_BODY
    with pytest.raises(Refusal, match=r"keep its keys\.dir") as refused:
        say(full, ring(POOL[1]))
    assert refused.value.reason is Reason.QUOTA_EXCEEDED


def test_adopting_withdraws_every_key_but_the_new_ones() -> None:
    both = said(said(NOTHING, ring(POOL[0])), ring(POOL[1]))
    new = said(NOTHING, ring(POOL[2])).keys
    adopted = both.replaced(9, [*new, both.keys[0]])
    assert {key.kid for key in adopted.keys} == {POOL[2].kid, both.keys[0].kid}
    assert adopted.withdrawn == (both.keys[1].kid,)
