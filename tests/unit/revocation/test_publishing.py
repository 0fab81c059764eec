"""What waits to be sent to verifiers, and who is cut off."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from broker.model.selector import Cause, RevocationRule, Selector, Target
from broker.revocation import publishing
from broker.revocation.barrier import Session
from broker.revocation.publishing import Confirmed, Publisher, first_updates

AT = datetime(2030, 1, 1, tzinfo=UTC)


def rule(index: int, tenant: str = "acme") -> RevocationRule:
    return RevocationRule(
        index=index,
        selector=Selector(tenant, Target.ALL),
        cause=Cause.OPERATOR,
        recorded_at=AT,
        relevant_until=AT,
    )


def session(name: str, tenant: str = "acme") -> Session:
    return Session(name, "verifier", tenant)


@pytest.fixture
def publisher() -> Publisher:
    return Publisher(lambda: (7, "a checkpoint"))


async def test_a_rule_goes_to_those_whom_it_concerns(publisher: Publisher) -> None:
    mine, other, all_tenants = (
        publisher.add(session(name, tenant)) for name, tenant in (("1", "acme"), ("2", "globex"), ("3", "*"))
    )
    publisher.publish([rule(6), rule(7, "*")])
    heard = {listener.session.id: await listener.next(0.01) for listener in (mine, other, all_tenants)}
    assert {name: [rule.index for rule in update.rules] for name, update in heard.items() if update is not None} == {
        "1": [6, 7],
        "2": [7],
        "3": [6, 7],
    }


async def test_who_is_sent_the_same_is_sent_one_update(publisher: Publisher) -> None:
    first, second, asked, answered, other = (
        publisher.add(session(name, tenant))
        for name, tenant in (("1", "acme"), ("2", "acme"), ("3", "acme"), ("4", "acme"), ("5", "*"))
    )
    publisher.answer(answered.session, Confirmed(1, timedelta(seconds=10)))
    publisher.publish([rule(7)], {"3"})
    one = await first.next(0.01)
    assert await second.next(0.01) is one
    for listener, confirm, is_answered, tenant in (
        (asked, True, False, "acme"),
        (answered, False, True, "acme"),
        (other, False, False, "*"),
    ):
        update = await listener.next(0.01)
        assert update is not None
        assert (update.confirm, update.confirmed is not None, update.tenant) == (confirm, is_answered, tenant)
        assert [rule.index for rule in update.rules] == [7]


async def test_a_rule_that_somebody_waits_for_is_confirmed_at_once(publisher: Publisher) -> None:
    waited_for, other = publisher.add(session("1")), publisher.add(session("2"))
    publisher.add(session("3", "globex"))
    assert publisher.publish([rule(7)], {"1", "3"}) == ["1"]
    heard = [await listener.next(0.01) for listener in (waited_for, other)]
    assert [update is not None and update.confirm for update in heard] == [True, False]


async def test_without_news_there_is_nothing_and_a_heartbeat_shows_the_checkpoint(publisher: Publisher) -> None:
    listener = publisher.add(session("1"))
    publisher.publish([])
    publisher.publish([rule(7, "globex")])
    assert await listener.next(0.01) is None
    heartbeat = publisher.news(listener)
    assert (heartbeat.index, heartbeat.checkpoint, list(heartbeat.rules)) == (7, "a checkpoint", [])


async def test_a_rule_that_comes_just_when_the_wait_for_news_is_over_is_sent_before_a_heartbeat_tells_of_it(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, now = asyncio.get_running_loop(), [0.0]
    monkeypatch.setattr(loop, "time", lambda: now[0])
    listener = publisher.add(session("1"))
    waiting = asyncio.create_task(listener.next(1.0))
    for _ in range(3):
        await asyncio.sleep(0)  # until it waits
    loop.call_later(1.0, publisher.publish, [rule(7)])
    now[0] = 2.0  # the loop was busy: both are due
    update = await waiting
    assert update is not None
    assert [rule.index for rule in update.rules] == [7]


async def test_only_who_is_asked_and_watches_is_to_confirm(publisher: Publisher) -> None:
    asked, other = publisher.add(session("1")), publisher.add(session("2"))
    publisher.ask(["1", "gone"])
    update = await asked.next(0.01)
    assert update is not None
    assert update.confirm
    assert await other.next(0.01) is None


async def test_whoever_lets_its_queue_fill_up_is_cut_off_alone(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "_MOST_QUEUED", 2)
    slow, quick = publisher.add(session("slow")), publisher.add(session("quick"))
    for index in range(3):
        publisher.publish([rule(index)])
        await quick.next(0.01)
    assert (slow.session.connected, quick.session.connected) == (False, True)
    publisher.publish([rule(3)])
    assert slow.queue.qsize() == 2, "nothing more is kept for it"


async def test_those_who_are_let_go_wake_up_and_are_sent_nothing_more(publisher: Publisher) -> None:
    mine, other = publisher.add(session("1")), publisher.add(session("2", "globex"))
    publisher.end(lambda tenant: tenant == "acme")
    assert await mine.next(0.01) is not None
    assert (mine.session.connected, other.session.connected) == (False, True)
    publisher.keys_changed()
    assert await mine.next(0.01) is None
    update = await other.next(0.01)
    assert update is not None
    assert update.keys_changed


async def test_a_confirmation_is_answered_with_the_next_news(publisher: Publisher) -> None:
    listener = publisher.add(session("1"))
    publisher.answer(listener.session, Confirmed(1, timedelta(seconds=9)))
    publisher.answer(listener.session, Confirmed(2, timedelta(seconds=10)))
    publisher.publish([rule(7)])
    update = await listener.next(0.01)
    assert update is not None
    assert ([rule.index for rule in update.rules], update.confirmed) == ([7], Confirmed(2, timedelta(seconds=10)))
    assert await listener.next(1) is None, "it has been answered"


async def test_a_confirmation_is_answered_though_there_is_no_news(publisher: Publisher) -> None:
    for number in (1, 2):
        listener = publisher.add(session("1"))
        publisher.answer(listener.session, Confirmed(number, timedelta(seconds=10)))
        update = await listener.next(60)
        assert update is not None
        assert (list(update.rules), update.confirm) == ([], False)
        assert update.confirmed == Confirmed(number, timedelta(seconds=10))


async def test_whoever_is_let_go_is_not_made_fresh_by_it(publisher: Publisher) -> None:
    ended, let_go = publisher.add(session("1")), publisher.add(session("2", "globex"))
    for listener in (ended, let_go):
        publisher.answer(listener.session, Confirmed(1, timedelta(seconds=10)))
    publisher.end(lambda tenant: tenant == "acme")
    publisher.let_go(let_go.session)
    for listener in (ended, let_go):
        update = await listener.next(0.01)
        assert update is not None
        assert update.confirmed is None
        assert await listener.next(1) is None


@pytest.mark.parametrize("snapshot", [True, False])
@pytest.mark.parametrize(("rules", "sizes"), [(0, [0]), (3, [3]), (4, [3, 1]), (6, [3, 3])])
def test_what_brings_a_verifier_up_to_date_comes_in_pieces_that_end(
    monkeypatch: pytest.MonkeyPatch, snapshot: bool, rules: int, sizes: list[int]
) -> None:
    monkeypatch.setattr(publishing, "_CHUNK", 3)
    updates = list(first_updates(session("1"), [rule(index) for index in range(rules)], 7, "note", snapshot=snapshot))
    assert [len(update.rules) for update in updates] == sizes
    assert [update.more for update in updates] == [True] * (len(sizes) - 1) + [False]
    assert [update.snapshot for update in updates] == [snapshot] + [False] * (len(sizes) - 1)
    assert [update.keys_changed for update in updates] == [True] + [False] * (len(sizes) - 1)
    assert {(update.index, update.checkpoint, update.tenant) for update in updates} == {(7, "note", "acme")}
