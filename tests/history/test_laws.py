"""The laws accuse no history of a correct broker, and find each kind of violation, wherever it is planted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from broker.model.errors import Reason
from tests.history.events import Begin, Event, History, Issue, Read, Renew, Revoke, Use
from tests.history.laws import LAWS, violations
from tests.history.model import TERMS, histories
from tests.history.violation import report

Planter = Callable[[float, float], list[Event]]
"""Makes the events of a violation: about an instant, and some seconds between what must not be so."""

LEASE = Issue(by="a", began=0, ended=1, request="r", task="t", lease="l")


def issues(at: float, count: int, **changes: object) -> list[Event]:
    """Give so many credentials for one task, one after the other."""
    return [
        Issue(by="a", began=at + n, ended=at + n + 0.5, request=f"r{n}", task="t", lease=f"l{n}", **changes)  # type: ignore[arg-type]
        for n in range(count)
    ]


def accepted_after_a_barrier(at: float, gap: float) -> list[Event]:
    rule = Revoke(by="o", began=at, ended=at + 3, rule="x", lease="l", barrier=True)
    return [LEASE, rule, Use(by="v", began=at + 3 + gap, ended=at + 3 + gap, lease="l")]


def accepted_after_the_end_of_its_task(at: float, gap: float) -> list[Event]:
    rule = Revoke(by="o", began=at, ended=at + 3, rule="x", task="t", ends=True, barrier=True)
    late = replace(LEASE, began=at - 1, ended=None)  # asked for before the end, and never answered: yet somebody has it
    return [LEASE, late, rule, Use(by="v", began=at + 3 + gap, ended=at + 3 + gap, lease="l")]


def accepted_after_a_barrier_on_all_that_its_task_had(at: float, gap: float) -> list[Event]:
    rule = Revoke(by="o", began=at + gap, ended=at + gap + 3, rule="x", task="t", barrier=True)
    had = replace(LEASE, began=at - 1, ended=at)
    return [had, rule, Use(by="v", began=at + 4 + 2 * gap, ended=at + 4 + 2 * gap, lease="l")]


def accepted_for_too_long(at: float, gap: float) -> list[Event]:
    rule = Revoke(by="o", began=at, ended=at + 3, rule="x", lease="l")
    return [LEASE, rule, Use(by="v", began=at + 3 + TERMS.window + gap, ended=at + 99, lease="l")]


def accepted_again(at: float, gap: float) -> list[Event]:
    rule = Revoke(by="o", began=at - 1, ended=None, rule="x", lease="l")
    refused = Use(by="v", began=at, ended=at + 1, lease="l", refused=Reason.TOKEN_REVOKED)
    return [LEASE, rule, refused, Use(by="v", began=at + 1 + gap, ended=at + 1 + gap, lease="l")]


def refused_before_it_was_revoked(at: float, gap: float) -> list[Event]:
    refused = Use(by="v", began=at, ended=at + 1, lease="l", refused=Reason.TOKEN_REVOKED)
    return [LEASE, refused, Revoke(by="o", began=at + 1 + gap, ended=None, rule="x", lease="l")]


def given_after_the_end(at: float, gap: float) -> list[Event]:
    rule = Revoke(by="o", began=at, ended=at + 3, rule="x", task="t", ends=True)
    return [rule, replace(LEASE, began=at + 3 + gap, ended=at + 4 + gap)]


def renewed_after_it_was_revoked(at: float, gap: float) -> list[Event]:
    rule = Revoke(by="o", began=at, ended=at + 3, rule="x", lease="l")
    return [LEASE, rule, Renew(by="a", began=at + 3 + gap, ended=at + 4 + gap, lease="l")]


def two_leases_of_a_request(at: float, gap: float) -> list[Event]:
    return [LEASE, replace(LEASE, began=at, ended=at + gap, lease="another")]


def two_tasks_of_a_request(at: float, gap: float) -> list[Event]:
    begun = Begin(by="o", began=at, ended=at + gap, request="r", task="t")
    return [begun, replace(begun, task="another")]


def one_lease_of_two_requests(at: float, gap: float) -> list[Event]:
    return [LEASE, replace(LEASE, began=at, ended=at + gap, request="another")]


def a_lease_too_many(at: float, gap: float) -> list[Event]:
    return issues(at, TERMS.leases_per_task + 1)


def a_lease_too_many_that_nobody_was_told(at: float, gap: float) -> list[Event]:
    asked = [replace(LEASE, request=f"r{n}", lease="", ended=None) for n in range(TERMS.leases_per_task + 1)]
    leases = tuple(f"l{n}" for n in range(TERMS.leases_per_task + 1))
    return [*asked, Read(by="r", began=at, ended=at, task="t", leases=leases)]


def refused_with_room_left(at: float, gap: float) -> list[Event]:
    refused = replace(LEASE, lease="", request="x", began=at, ended=at + 1, refused=Reason.QUOTA_EXCEEDED)
    return [*issues(at - 2, TERMS.leases_per_task - 1), refused, replace(LEASE, began=at + 1 + gap, request="late")]


def a_task_too_many(at: float, gap: float) -> list[Event]:
    return [
        Begin(by="o", began=at + n, ended=at + n + gap, request=f"r{n}", task=f"t{n}")
        for n in range(TERMS.active_tasks + 1)
    ]


def good_for_two_times(at: float, gap: float) -> list[Event]:
    return issues(at, 2, token="token")


def a_proof_for_two_times(at: float, gap: float) -> list[Event]:
    return issues(at, 2, proof="proof")


def good_again_after_a_refusal(at: float, gap: float) -> list[Event]:
    first = replace(LEASE, lease="", refused=Reason.TASK_NOT_ACTIVE, token="token")
    return [first, *issues(at, 1, token="token")]


def used_before_its_time(at: float, gap: float) -> list[Event]:
    refused = replace(LEASE, lease="", began=at, ended=at + 1, refused=Reason.ASSERTION_REPLAYED, token="token")
    return [refused, replace(LEASE, request="late", began=at + 1 + gap, ended=None, lease="", token="token")]


def later_and_before(at: float, gap: float) -> list[Event]:
    first = replace(LEASE, began=at, ended=at + 1, index=70_000)
    return [first, Revoke(by="o", began=at + 1 + gap, ended=at + 9, rule="x", lease="l", index=69_999)]


def two_at_one_place(at: float, gap: float) -> list[Event]:
    rule = Revoke(by="o", began=at, ended=at + 9, rule="x", lease="none", index=70_000)
    return [rule, replace(rule, by="p", rule="y", ended=None)]


def lost(at: float, gap: float) -> list[Event]:
    return [LEASE, Read(by="r", began=at, ended=at, task="t", leases=())]


def two_for_one_unanswered(at: float, gap: float) -> list[Event]:
    asked = replace(LEASE, lease="", ended=None)
    return [asked, replace(asked, began=at), Read(by="r", began=at + gap, ended=None, task="t", leases=("l", "m"))]


PLANTED: dict[Planter, str] = {
    accepted_after_a_barrier: "barrier",
    accepted_after_the_end_of_its_task: "barrier",
    accepted_after_a_barrier_on_all_that_its_task_had: "barrier",
    accepted_for_too_long: "window",
    accepted_again: "resurrection",
    refused_before_it_was_revoked: "cause",
    given_after_the_end: "end",
    renewed_after_it_was_revoked: "renewal",
    two_leases_of_a_request: "request",
    two_tasks_of_a_request: "request",
    one_lease_of_two_requests: "request",
    a_lease_too_many: "leases_per_task",
    a_lease_too_many_that_nobody_was_told: "leases_per_task",
    refused_with_room_left: "leases_per_task",
    a_task_too_many: "tasks_at_a_time",
    good_for_two_times: "once",
    a_proof_for_two_times: "once",
    good_again_after_a_refusal: "once",
    used_before_its_time: "once",
    later_and_before: "order",
    two_at_one_place: "order",
    lost: "kept",
    two_for_one_unanswered: "kept",
}


LIVED: dict[str, Callable[[Event], bool]] = {
    "a barrier": lambda event: isinstance(event, Revoke) and event.barrier and event.ended is not None,
    "no answer": lambda event: isinstance(event, Revoke) and event.ended is None,
    "refused as revoked": lambda event: isinstance(event, Use) and event.refused == Reason.TOKEN_REVOKED,
    "no room in a task": lambda event: isinstance(event, Issue) and event.refused == Reason.QUOTA_EXCEEDED,
    "no room for a task": lambda event: isinstance(event, Begin) and event.refused == Reason.QUOTA_EXCEEDED,
    "refused as used": lambda event: isinstance(event, Issue) and event.refused == Reason.ASSERTION_REPLAYED,
    "a task that is over": lambda event: isinstance(event, Issue) and event.refused == Reason.TASK_NOT_ACTIVE,
}


@settings(max_examples=200)
@given(histories())
def test_a_correct_broker_is_accused_of_nothing(history: History) -> None:
    found = violations(history)
    assert not found, report(found)


@settings(max_examples=60)
@given(histories(), st.floats(10, 100), st.floats(0.001, 30))
def test_what_is_planted_is_found(history: History, at: float, gap: float) -> None:
    for planter, law in PLANTED.items():
        planted = replace(history, events=(*history.events, *planter(at, gap)))
        assert law in {violation.law for violation in violations(planted)}, planter.__name__


def test_every_law_has_a_violation_that_is_planted() -> None:
    assert {law.__name__ for law in LAWS} == set(PLANTED.values())


def test_a_correct_broker_lives_everything_that_the_laws_speak_of() -> None:
    seen: set[str] = set()

    @settings(max_examples=150, phases=[Phase.generate], derandomize=True)
    @given(histories())
    def live(history: History) -> None:
        seen.update(name for name, lived in LIVED.items() if any(map(lived, history.events)))

    live()
    assert seen == LIVED.keys()
