"""A call is sent again while its time lasts, with pauses that grow, and that differ between callers."""

from __future__ import annotations

from itertools import islice

import pytest

from broker.model.errors import Hints, Reason, Refusal
from broker.sdk.connect.patience import Patience, attempt_of, chance, pauses


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def patience(time: Time, seconds: float = 30.0) -> Patience:
    return Patience(seconds, attempt=10.0, now=time, draw=lambda: 0.5)


def test_pauses_grow_up_to_the_longest() -> None:
    assert list(islice(pauses(0.1, 2.0, lambda: 0.5), 7)) == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0])


def test_no_two_callers_come_at_once() -> None:
    drawn = {next(pauses(1.0, 1.0, chance)) for _ in range(100)}
    assert len(drawn) > 90
    assert all(0.5 <= seconds < 1.5 for seconds in drawn)


def test_the_attempts_share_the_time() -> None:
    time = Time()
    waiting = patience(time)
    assert waiting.attempt() == 10.0
    time.now += 25
    assert waiting.attempt() == pytest.approx(5.0)
    time.now += 6
    assert waiting.attempt() == 0.0


@pytest.mark.parametrize("reason", list(Reason))
def test_only_what_may_pass_is_waited_for(reason: Reason) -> None:
    waits = patience(Time()).pause(Refusal(reason, "no")) is not None
    assert waits == (reason in (Reason.UNAVAILABLE, Reason.LEDGER_UNAVAILABLE))


def test_a_pause_that_outlasts_the_time_is_not_begun() -> None:
    time = Time()
    waiting = patience(time, 1.0)
    refusal = Refusal(Reason.UNAVAILABLE, "not now")
    assert waiting.pause(refusal) == pytest.approx(0.1)
    time.now += 0.9
    assert waiting.pause(refusal) is None


def test_who_says_when_to_come_again_is_believed() -> None:
    assert patience(Time()).pause(Refusal(Reason.UNAVAILABLE, "no", Hints(retry_seconds=7))) == 7
    assert patience(Time(), 5).pause(Refusal(Reason.UNAVAILABLE, "no", Hints(retry_seconds=7))) is None


def test_what_one_says_of_itself_does_not_hold_for_another() -> None:
    refusal = Refusal(Reason.UNAVAILABLE, "no", Hints(retry_seconds=7))
    assert patience(Time(), 5).pause(refusal, elsewhere=True) == pytest.approx(0.1)
    assert patience(Time(), 5).pause(Refusal(Reason.LOCKED, "no"), elsewhere=True) is None


@pytest.mark.parametrize(
    ("seconds", "barrier", "attempt"), [(30.0, False, 10.0), (30.0, True, 15.0), (60.0, True, 30.0), (14.0, True, 12.0)]
)
def test_no_broker_has_all_the_time_if_there_may_be_another(seconds: float, barrier: bool, attempt: float) -> None:
    assert attempt_of(seconds, barrier=barrier) == attempt
