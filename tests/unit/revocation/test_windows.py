"""For how long whom: windows, confirmations and barriers, one by one."""

from __future__ import annotations

import pytest

from broker.revocation.barrier import NEVER, Barrier, Receipt, Session
from broker.revocation.freshness import Freshness

WINDOW = 10.0
PATIENCE = 10.1


def session(**changes: object) -> Session:
    return Session("1", "verifier", "acme", **changes)  # type: ignore[arg-type]


def test_freshness_counts_from_the_start_of_the_last_successful_look() -> None:
    looks = Freshness(WINDOW)
    looks.looked(100.0, 5)
    assert looks.fresh_until(5, 108.0) == 110.0
    looks.looked(103.0, 5)
    assert looks.fresh_until(5, 108.0) == 113.0


def test_whoever_lacks_a_rule_is_fresh_for_one_window_from_the_look_that_had_not_found_it() -> None:
    looks = Freshness(WINDOW)
    looks.looked(100.0, 5)
    looks.looked(102.0, 7)
    looks.looked(104.0, 9)
    assert looks.fresh_until(5, 105.0) == 110.0
    assert looks.fresh_until(7, 105.0) == 112.0
    assert looks.fresh_until(9, 105.0) == 114.0
    assert looks.fresh_until(5, 111.0) == NEVER


def test_a_steady_flow_of_rules_of_which_the_last_is_always_missed_makes_nobody_stale() -> None:
    looks, watching = Freshness(WINDOW), session()
    looks.looked(0.0, 0)
    for number in range(1, 100):
        looks.looked(float(number), number)
        looks.confirm(watching, number - 1, number + 0.5)
        assert watching.fresh_until > number + WINDOW / 2


def test_a_barrier_waits_for_whom_its_rule_concerns_of_those_who_were_there() -> None:
    looks = Freshness(WINDOW)
    looks.looked(100.0, 5)
    there, elsewhere = session(fresh_until=110.0), Session("2", "v", "globex", 110.0)
    everywhere, gone = Session("3", "v", "*", 110.0), session(fresh_until=99.0)
    looks.sessions = {str(number): one for number, one in enumerate((there, elsewhere, everywhere, gone))}
    barrier = looks.barrier(6, "acme")
    looks.sessions["late"] = session(fresh_until=200.0)
    assert not barrier.is_over(100.0)
    assert barrier.next_at() == 110.0
    assert waited_for(barrier, 100.0) == {there.tenant, everywhere.tenant}
    looks.looked(101.0, 6)
    looks.confirm(there, 6, 102.0)
    assert barrier.waits_for(102.0) == [everywhere]
    assert barrier.so_far(102.0) == Receipt(confirmed=1, stale=1)
    assert [barrier.is_over(now) for now in (109.9, 110.0)] == [False, True]
    assert barrier.receipt() == barrier.so_far(110.0) == Receipt(confirmed=1, stale=2)


def waited_for(barrier: Barrier, now: float) -> set[str]:
    return {session.tenant for session in barrier.waits_for(now)}


def test_a_barrier_is_over_once_the_last_has_confirmed_and_whoever_waits_is_told() -> None:
    looks = Freshness(WINDOW)
    looks.looked(100.0, 6)
    watching = looks.join("1", "verifier", "acme", 100.0)
    barrier, other = looks.barrier(6, "acme"), looks.barrier(7, "acme")
    looks.confirm(watching, 5, 101.0)
    assert not looks.any_closed()
    looks.confirm(watching, 6, 102.0)
    assert looks.any_closed()
    assert (barrier.is_over(102.0), other.is_over(102.0)) == (True, False)
    looks.let_go(barrier)
    assert not looks.any_closed()


def test_who_has_ended_is_waited_for_no_more_and_forgotten() -> None:
    looks = Freshness(WINDOW)
    ended, watching = (looks.join(name, "verifier", "acme", 100.0) for name in ("1", "2"))
    barrier = looks.barrier(6, "acme")
    looks.end(ended)
    assert barrier.waits_for(101.0) == [watching]
    assert not ended.connected
    assert looks.forget_stale(101.0) == [ended]
    watching.connected = False
    assert looks.forget_stale(110.0) == []
    assert looks.forget_stale(watching.fresh_until) == [watching]
    assert not looks.sessions


def test_a_rule_of_all_tenants_concerns_everybody() -> None:
    of_one, of_all = session(fresh_until=110.0), Session("3", "v", "*", 110.0)
    barrier = Barrier(6, "*", [of_one, of_all])
    assert waited_for(barrier, 100.0) == {"acme", "*"}
    assert waited_for(Barrier(6, "globex", [of_one, of_all]), 100.0) == {"*"}


def test_after_a_barrier_nobody_is_made_fresh_who_has_not_confirmed_its_rule() -> None:
    looks, stale = Freshness(WINDOW), session(fresh_until=100.0)
    looks.looked(100.0, 5)
    barrier = Barrier(6, "acme", [stale])
    assert not barrier.waits_for(101.0)
    assert barrier.is_over(101.0)
    assert looks.confirm(stale, 5, 101.0) == NEVER
    looks.looked(102.0, 6)
    assert looks.confirm(stale, 6, 103.0) == pytest.approx(112.0)


def test_whoever_was_stale_is_not_made_fresh_again_while_the_barrier_waits_for_others() -> None:
    looks = Freshness(WINDOW)
    looks.looked(100.0, 5)
    stale, other = (looks.join(name, "verifier", "acme", now) for name, now in (("1", 95.0), ("2", 104.0)))
    barrier = looks.barrier(6, "acme")
    assert not barrier.is_over(104.0)
    assert not barrier.is_over(105.5)  # the first is stale
    assert looks.confirm(stale, 5, 106.0) == NEVER, "it could be fresh until 110, and nobody would wait for it"
    looks.looked(106.0, 6)
    looks.confirm(other, 6, 107.0)
    assert barrier.is_over(107.0)
    assert not stale.accepts(6, 107.0)


def test_an_index_that_there_is_not_yet_counts_as_the_newest() -> None:
    looks, ahead = Freshness(WINDOW), session(fresh_until=110.0)
    looks.looked(100.0, 5)
    looks.confirm(ahead, 1_000, 101.0)
    barrier = Barrier(6, "acme", [ahead])
    assert barrier.waits_for(102.0) == [ahead]


def test_nobody_is_kept_fresh_for_longer_than_the_record_of_who_we_are_is_good_for() -> None:
    looks, watching = Freshness(WINDOW, ceiling=NEVER), session()
    looks.recorded(100.0, 100.2)
    looks.looked(101.0, 5)
    assert looks.confirm(watching, 5, 101.0) == 110.0
    looks.recorded(103.0, 103.2)
    assert looks.confirm(watching, 5, 104.0) == 111.0
    assert watching.fresh_until == pytest.approx(111.1)


def test_whoever_may_have_been_held_for_dead_looks_again_before_it_keeps_anybody_fresh() -> None:
    looks, watching = Freshness(WINDOW, ceiling=NEVER), session()
    looks.looked(99.0, 5)
    assert looks.confirm(watching, 5, 99.5) == NEVER, "it is not on record"
    looks.recorded(89.2, 89.3)
    looks.recorded(99.2, 100.0)
    assert looks.confirm(watching, 5, 100.5) == NEVER, "what it saw was before"
    looks.looked(99.9, 6)
    assert looks.confirm(watching, 6, 101.0) == NEVER, "that began before"
    looks.looked(100.0, 7)
    assert looks.confirm(watching, 6, 101.0) == NEVER, "it lacks what may have been waited for"
    assert looks.confirm(watching, 7, 101.0) == 109.2
    looks.recorded(109.0, 109.1)
    assert looks.confirm(watching, 7, 109.2) == 110.0, "it was in time"
    looks.recorded(118.9, 119.0)
    assert looks.confirm(watching, 7, 119.0) == NEVER, "it was late"


def test_whoever_was_never_on_record_is_held_for_dead_by_nobody() -> None:
    looks, coming = Freshness(WINDOW, ceiling=NEVER), session(confirmed=6)
    looks.looked(99.0, 5)
    looks.recorded(99.2, 100.0)
    assert looks.confirm(coming, 5, 100.5) == 109.0, "it was sent what was there when it was on record"


def test_a_verifier_has_what_it_is_sent_first_before_it_is_fresh() -> None:
    looks = Freshness(WINDOW)
    looks.looked(100.0, 5)
    coming = looks.join("1", "verifier", "acme", 101.0)
    barrier = looks.barrier(6, "acme")
    assert not barrier.is_over(101.0)
    looks.caught_up(coming, 7)
    looks.caught_up(coming, 4)
    assert coming.confirmed == 7
    assert not barrier.waits_for(101.0)


def test_a_session_is_asked_once_for_each_barrier_on_a_rule_that_was_seen() -> None:
    looks = Freshness(WINDOW)
    looks.looked(100.0, 5)
    looks.join("1", "verifier", "acme", 100.0)
    first = looks.barrier(6, "acme")
    assert looks.to_ask() == set(), "it has not been sent the rule"
    looks.looked(101.0, 6)
    assert looks.to_ask() == {"1"}
    looks.asked(["1"])
    assert looks.to_ask() == set()
    looks.barrier(6, "acme")
    assert looks.to_ask() == {"1"}, "another waits"
    looks.let_go(first)
    assert looks.to_ask() == {"1"}
