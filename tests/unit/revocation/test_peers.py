"""When a barrier has waited for the verifiers of other brokers, by what the register says; and what is said of it."""

from __future__ import annotations

import pytest

from broker.revocation import closing
from broker.revocation.barrier import NEVER, Barrier, Receipt, Session
from broker.revocation.closing import MOST_NAMED, Closing, State
from broker.revocation.peers import Answer, Peer, PeerBarrier, Peers

PATIENCE = 10.1


def peer(beat: int = 1, *, closed: int = -1, tenant: str = "acme", **verifiers: int) -> Peer:
    answer = Answer(closed=closed, confirmed=2, stale=1)
    return Peer(id="b", beat=beat, answers={tenant: answer}, verifiers=verifiers or {"acme": 3})


def waiting(*others: Peer, began: float = 100.0) -> tuple[Peers, PeerBarrier]:
    peers = Peers(PATIENCE)
    barrier = peers.barrier(6, "acme", began)
    peers.read(others, 100.1, 100.5)
    return peers, barrier


def test_nobody_is_waited_for_once_the_register_was_read_and_has_nobody_else() -> None:
    peers, barrier = Peers(PATIENCE), None
    peers.read([], 99.9, 100.5)
    barrier = peers.barrier(6, "acme", 100.0)
    assert not barrier.is_over(100.5), "the reading began before the rule was committed"
    peers.read([], 100.0, 100.6)
    assert not barrier.is_over(100.6), "perhaps before"
    peers.read([], 100.1, 101.0)
    assert barrier.is_over(101.0)
    assert barrier.receipt() == Receipt(0, 0)


@pytest.mark.parametrize(
    ("verifiers", "waited_for"),
    [({"acme": 1}, True), ({"*": 1}, True), ({"globex": 1}, False), ({"globex": 1, "acme": 0}, False)],
)
def test_a_broker_is_waited_for_if_the_rule_concerns_any_of_its_verifiers(
    verifiers: dict[str, int], waited_for: bool
) -> None:
    other = Peer(id="b", verifiers=verifiers)
    _, barrier = waiting(other)
    assert barrier.is_over(101.0) is not waited_for
    assert barrier.waits_for() == [other] * waited_for


def test_a_rule_of_all_tenants_is_waited_for_at_brokers_with_any_verifier() -> None:
    peers = Peers(PATIENCE)
    barrier = peers.barrier(6, "*", 100.0)
    peers.read([Peer(id="b", verifiers={"globex": 1}), Peer(id="c")], 100.0, 100.5)
    assert [each.id for each in barrier.waits_for()] == ["b"]


@pytest.mark.parametrize(
    ("other", "over"),
    [(peer(closed=5), False), (peer(closed=6), True), (peer(closed=7), True), (peer(closed=7, tenant="*"), False)],
)
def test_an_answer_closes_the_rules_of_its_tenant_up_to_where_it_says(other: Peer, over: bool) -> None:
    _, barrier = waiting(other)
    assert barrier.is_over(101.0) is over
    assert barrier.receipt() == (Receipt(2, 1) if over else Receipt(0, 0))


def test_what_an_answer_counts_is_kept_when_its_broker_has_gone() -> None:
    peers, barrier = waiting(peer(closed=6), Peer(id="c", verifiers={"acme": 1}))
    assert not barrier.is_over(101.0)
    peers.read([], 102.0, 102.5)
    assert barrier.is_over(102.5)
    assert barrier.receipt() == Receipt(2, 1)


def test_a_broker_is_silent_when_a_reading_finds_its_row_as_it_was_a_window_ago() -> None:
    peers, _ = waiting(peer())
    assert peers.silent() == []
    for began, silent in ((110.5, False), (110.6, True), (110.7, True)):
        peers.read([peer()], began, began + 5.0)  # however long the reading took, and whatever the time is now
        assert [each.id for each in peers.silent()] == ["b"] * silent
    peers.read([peer(beat=2)], 120.0, 120.5)
    assert peers.silent() == []
    peers.read([], 121.0, 121.5)
    peers.read([peer(beat=2)], 140.0, 140.5)
    assert peers.silent() == [], "it was away meanwhile, and comes as a stranger"


def test_a_silent_broker_is_not_waited_for() -> None:
    peers, barrier = Peers(PATIENCE), None
    peers.read([peer()], 100.0, 100.5)
    barrier = peers.barrier(6, "acme", 109.0)
    peers.read([peer()], 109.5, 110.0)
    assert not barrier.is_over(110.0)
    peers.read([peer()], 110.7, 111.0)
    assert barrier.is_over(111.0)
    assert not barrier.waits_for()


def test_a_window_after_its_rule_was_committed_a_barrier_is_over_whatever_is_heard() -> None:
    peers, barrier = waiting(peer())
    assert barrier.closed_by == barrier.next_at(101.0) == 110.1
    assert [barrier.is_over(now) for now in (110.0, 110.1)] == [False, True]
    unread = Peers(PATIENCE).barrier(6, "acme", 100.0)
    assert [unread.is_over(now) for now in (110.0, 110.1)] == [False, True]
    assert peers.known.keys() == {"b"}


def test_strangers_are_waited_for_as_long_as_there_may_be_any() -> None:
    peers = Peers(PATIENCE, strangers_until=105.0)
    barrier = peers.barrier(6, "acme", 100.0)
    peers.read([], 100.1, 100.5)
    assert [barrier.is_over(now) for now in (100.5, 104.9, 105.0)] == [False, False, True]
    assert (barrier.next_at(100.5), barrier.is_known(104.9), barrier.is_known(105.0)) == (105.0, False, True)
    peers.strangers_until = float("inf")
    assert barrier.next_at(100.5) == 110.1


def test_what_others_ask_is_the_newest_rule_of_each_tenant() -> None:
    peers = Peers(PATIENCE)
    assert (peers.asked(), peers.have_any()) == ({}, False)
    asked = [{"acme": 6, "*": 2}, {"acme": 4, "*": 3}, {"globex": 1}]
    peers.read([Peer(id=str(number), asked=each) for number, each in enumerate(asked)], 100.0, 100.5)
    assert peers.asked() == {"acme": 6, "*": 3, "globex": 1}
    assert not peers.have_any()
    peers.read([Peer(id="b", verifiers={"acme": 1})], 101.0, 101.5)
    assert peers.have_any()


# What is said when somebody waits no longer.


def local(*sessions: Session) -> Barrier:
    return Barrier(6, "acme", sessions)


def test_a_barrier_that_is_over_everywhere_is_closed_and_counts_all() -> None:
    stale = Session("1", "tool", "acme", fresh_until=99.0)
    done = Session("2", "tool", "acme", fresh_until=110.0, confirmed=6)
    here, (_, elsewhere) = local(stale, done), waiting(peer(closed=6))
    assert here.is_over(100.5)
    assert elsewhere.is_over(100.5)
    assert closing.closed(here, elsewhere) == Closing(state=State.CLOSED, confirmed=3, stale=2)


def test_who_is_awaited_is_named_here_and_by_others_as_far_as_they_say() -> None:
    here = local(Session("1", "tool", "acme", fresh_until=110.0))
    peers, elsewhere = waiting(peer())
    unnamed = closing.not_closed(here, elsewhere, 101.1)
    assert unnamed.state is State.UNKNOWN
    assert unnamed.awaited == (("acme", "tool"),)
    assert unnamed.seconds == pytest.approx(9.0)
    answer = Answer(awaited=(("*", "gate"), ("acme", "other")), more=3)
    peers.read([Peer(id="b", answers={"acme": answer}, verifiers={"acme": 5})], 101.2, 101.3)
    named = closing.not_closed(here, elsewhere, 112.0)
    assert (named.state, named.confirmed, named.stale, named.seconds) == (State.PARTIAL, 0, 1, 0.0)
    assert (named.awaited, named.more) == ((("*", "gate"), ("acme", "other")), 3)
    seen = named.named_to("acme")
    assert (seen.awaited, seen.more) == ((("acme", "other"),), 4)
    assert named.named_to("*") == named


def test_no_more_are_named_than_anybody_reads() -> None:
    here = local(*(Session(str(number), "tool", "acme", fresh_until=110.0) for number in range(MOST_NAMED + 7)))
    said = closing.not_closed(here, waiting()[1], 101.0)
    assert (said.state, len(said.awaited), said.more) == (State.PARTIAL, MOST_NAMED, 7)


def test_a_barrier_that_never_began_to_wait_says_so() -> None:
    here = local()
    assert (here.is_over(0.0), here.next_at()) == (True, NEVER)
    assert closing.not_closed(here, Peers(PATIENCE).barrier(6, "acme", 100.0), 100.0).state is State.UNKNOWN
