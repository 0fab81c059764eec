"""What is in force follows from entries alone, and taking it up from rows that a commitment proves gives the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.audit.effects import (
    Adopted,
    Commitment,
    KeysAnnounced,
    LeasesClosed,
)
from broker.audit.in_force import CommitmentMismatch, InForce
from broker.model.principal import ANY_TENANT
from broker.model.selector import Cause, Lock, RevocationRule, Selector, Target
from tests.support.in_force import LATER, SELECTORS, START, History, histories


def what_it_says(state: InForce) -> tuple[object, ...]:
    everything = datetime(1970, 1, 1, tzinfo=UTC)
    return (
        state.rules(),
        state.locks(everything),
        state.horizon,
        state.tokens_until,
        (state.committed, state.committed_in_part),
        state.announced,
        (state.adopted_index, state.adopted_at),
        state.commitment(10_000, state.horizon),
        [state.relevant(tenant) for tenant in ("acme", "globex", ANY_TENANT)],
    )


@given(histories())
def test_taking_up_at_a_commitment_gives_what_all_entries_give(history: History) -> None:
    commitment = history.commitment()
    if commitment is None:
        return
    announced = history.announced(commitment.index)
    assert commitment.keys is None or commitment.keys_index == announced.index
    taken_up = InForce.before(commitment, *history.rows(commitment), announced)
    for entry in history.entries[commitment.index :]:
        taken_up.apply(entry)
    assert what_it_says(taken_up) == what_it_says(history.state)


def test_a_rule_that_was_past_when_it_was_recorded_keeps_no_broker_from_its_commitment() -> None:
    history = History()
    history.commit(-timedelta(hours=5))
    history.revoke(Selector("acme", Target.TASK, "one"), timedelta(hours=1), None)
    history.lock(Selector("acme", Target.TASK, "one"), timedelta(hours=1))
    history.commit(timedelta())  # the clock was set back
    commitment = history.commitment()
    assert commitment is not None
    InForce.before(commitment, *history.rows(commitment)).apply([commitment])


@given(histories())
def test_replaying_all_entries_gives_the_same_whoever_does_it(history: History) -> None:
    again = InForce()
    for entry in history.entries:
        again.apply(entry)
    assert what_it_says(again) == what_it_says(history.state)
    assert again.last_rule == max((rule.index for rule in history.rules), default=-1)


@given(histories(), st.integers(0, 5), LATER)
def test_a_commitment_to_a_tail_is_the_one_after_it(history: History, length: int, by: timedelta) -> None:
    before = InForce()
    split = max(0, len(history.entries) - length)
    for entry in history.entries[:split]:
        before.apply(entry)
    tail = [effect for entry in history.entries[split:] for effect in entry]
    if any(isinstance(effect, Commitment) for effect in tail):
        return
    horizon = before.horizon + by
    made = before.commitment(history.index, horizon, tail)
    assert made == history.state.commitment(history.index, horizon)


def test_a_commitment_counts_an_adoption_among_what_is_not_applied_yet() -> None:
    adopted = Adopted(
        index=100, at=START, origin="new", previous_origin="old", previous_size=7, previous_root="00" * 32
    )
    state = InForce()
    made = state.commitment(101, START, [adopted])
    assert (made.adopted_index, made.adopted_at) == (100, START)
    assert state.adopted_index == -1
    state.apply([adopted])
    assert state.commitment(101, START) == made


def test_a_commitment_is_to_nothing_that_is_neither_in_force_nor_a_token() -> None:
    state = InForce()
    assert state.commitment(1, START, [LeasesClosed(("one",))]) == state.commitment(1, START)


@given(histories())
def test_nothing_that_is_needed_after_the_horizon_is_forgotten(history: History) -> None:
    kept, horizon = history.state.rules(), history.state.horizon
    assert [rule for rule in history.rules if rule.kept_until > horizon and rule not in kept] == []
    active = history.state.locks(horizon)
    assert [lock for lock, lifted in history.locks if lifted is None and lock.is_active(horizon)] == active
    relevant = history.state.relevant(ANY_TENANT)
    assert relevant == [rule for rule in history.rules if rule.relevant_until > horizon]


@given(histories(), st.frozensets(SELECTORS, max_size=3), st.integers(-1, 40))
def test_a_lease_ends_by_the_first_rule_after_it_that_covers_it(
    history: History, selectors: frozenset[Selector], index: int
) -> None:
    covering = [rule for rule in history.state.rules() if rule.selector in selectors and rule.index > index]
    assert history.state.ended_by(selectors, index) == (covering[0] if covering else None)


def test_a_lease_of_after_a_rule_ends_by_the_next_one() -> None:
    history, selector = History(), Selector("acme", Target.TASK, "one")
    for _ in range(3):
        history.revoke(selector, timedelta(hours=1), None)
        history.issue(timedelta(hours=1))
    ends = [history.state.ended_by([selector], lease_index) for lease_index in (1, 3, 5)]
    assert ends == [history.rules[1], history.rules[2], None]


def test_the_rule_of_an_ended_task_stays_until_its_deadline() -> None:
    history = History()
    history.revoke(Selector("acme", Target.TASK, "one"), timedelta(hours=1), timedelta(hours=3))
    history.now += timedelta(hours=2)
    history.commit(timedelta())
    assert history.state.rules() == history.rules
    assert history.state.relevant("acme") == []
    history.now += timedelta(hours=1)
    history.commit(timedelta())
    assert history.state.rules() == []


@given(histories(), SELECTORS, st.integers(-1, 40))
def test_rules_are_found_by_selector_tenant_and_index(history: History, selector: Selector, after: int) -> None:
    kept = history.state.rules()
    same = [rule for rule in kept if rule.selector == selector]
    assert history.state.newest(selector) == (same[-1] if same else None)
    assert history.state.rules(after) == [rule for rule in kept if rule.index > after]
    assert all(rule.selector.tenant in ("acme", ANY_TENANT) for rule in history.state.relevant("acme"))


@given(histories(), st.data())
def test_a_missing_an_extra_or_an_altered_row_is_not_taken_up(history: History, data: st.DataObject) -> None:
    selector = data.draw(SELECTORS)
    history.revoke(selector, timedelta(hours=60), None)
    history.lock(selector, None)
    history.announce(["k1", "k2"], ["k3"])
    history.commit(timedelta())
    commitment = history.commitment()
    assert commitment is not None
    rules, locks = history.rows(commitment)
    announced = history.announced(commitment.index)
    rule_at = data.draw(st.integers(0, len(rules) - 1))
    lock_at = data.draw(st.integers(0, len(locks) - 1))
    rule, lock = rules[rule_at], locks[lock_at]
    wrong_rules = data.draw(st.sampled_from(RULES_GONE_WRONG))(rule)
    wrong_locks = data.draw(st.sampled_from(LOCKS_GONE_WRONG))(lock)
    wrong_keys = data.draw(st.sampled_from(KEYS_GONE_WRONG))(announced)
    others = data.draw(
        st.sampled_from(
            [
                ([*rules[:rule_at], *wrong_rules, *rules[rule_at + 1 :]], locks, announced),
                (rules, [*locks[:lock_at], *wrong_locks, *locks[lock_at + 1 :]], announced),
                (rules, locks, wrong_keys),
            ]
        )
    )
    with pytest.raises(CommitmentMismatch, match=f"entry {commitment.index} commits to other rules or locks"):
        InForce.before(commitment, *others).apply([commitment])


def _with_first(announced: KeysAnnounced, **changes: object) -> KeysAnnounced:
    first, *others = announced.keys
    return replace(announced, keys=(replace(first, **changes), *others))  # type: ignore[arg-type]


HOUR = timedelta(hours=1)
RULES_GONE_WRONG: list[Callable[[RevocationRule], list[RevocationRule]]] = [
    lambda _rule: [],
    lambda rule: [rule, rule],
    lambda rule: [replace(rule, index=rule.index - 1)],
    lambda rule: [replace(rule, selector=replace(rule.selector, tenant="initech"))],
    lambda rule: [replace(rule, selector=replace(rule.selector, target=Target.AGENT))],
    lambda rule: [replace(rule, selector=replace(rule.selector, value="four"))],
    lambda rule: [replace(rule, cause=Cause.RELEASED)],
    lambda rule: [replace(rule, recorded_at=rule.recorded_at - HOUR)],
    lambda rule: [replace(rule, relevant_until=rule.relevant_until + HOUR)],
    lambda rule: [replace(rule, task_deadline=rule.kept_until + HOUR)],
]
LOCKS_GONE_WRONG: list[Callable[[Lock], list[Lock]]] = [
    lambda _lock: [],
    lambda lock: [lock, replace(lock, id="another")],
    lambda lock: [replace(lock, index=lock.index + 1_000)],
    lambda lock: [replace(lock, id="another")],
    lambda lock: [replace(lock, selector=replace(lock.selector, tenant="initech"))],
    lambda lock: [replace(lock, selector=replace(lock.selector, value="four"))],
    lambda lock: [replace(lock, reason="none")],
    lambda lock: [replace(lock, created_by="")],
    lambda lock: [replace(lock, created_at=lock.created_at - HOUR)],
    lambda lock: [replace(lock, expires_at=datetime(2040, 1, 1, tzinfo=UTC))],
]
KEYS_GONE_WRONG: list[Callable[[KeysAnnounced], KeysAnnounced]] = [
    lambda _announced: KeysAnnounced(-1),
    lambda announced: replace(announced, index=announced.index - 1),
    lambda announced: replace(announced, keys=announced.keys[:1]),
    lambda announced: replace(announced, keys=(*announced.keys, replace(announced.keys[0], kid="k4"))),
    lambda announced: replace(announced, withdrawn=()),
    lambda announced: replace(announced, withdrawn=("k4",)),
    lambda announced: _with_first(announced, kid="k4"),
    lambda announced: _with_first(announced, x="z"),
    lambda announced: _with_first(announced, y="z"),
    lambda announced: _with_first(announced, signs_from=announced.keys[0].signs_from - HOUR),
    lambda announced: _with_first(announced, until=announced.keys[0].until + HOUR),
]
