"""Whether a database can be written, told by how the last attempts went."""

from __future__ import annotations

from broker.store.pulse import Pulse

PAGES = 32  # that must be written after a failure, one by each attempt


def go_well(pulse: Pulse, now: float) -> None:
    pulse.begin(now)
    pulse.end(now, failed=False)


def test_it_is_well_until_an_attempt_fails_and_some_seconds_after_the_last_that_failed() -> None:
    pulse = Pulse()
    assert pulse.problem(0.0) is None
    pulse.begin(10.0)
    pulse.end(10.1, failed=True)
    assert pulse.problem(10.2) == pulse.problem(100.0) == "the database cannot be written"
    for _ in range(PAGES - 1):
        go_well(pulse, 101.0)
        assert pulse.problem(101.1) is not None, "there may be room for an attempt, and none for a change"
    go_well(pulse, 101.1)
    assert pulse.problem(101.2) is None
    pulse.begin(102.0)
    pulse.end(102.1, failed=True)
    for _ in range(PAGES):
        go_well(pulse, 103.0)
    assert pulse.problem(104.0) is not None, "a disk that is nearly full takes one and fails the next"
    assert pulse.problem(106.0) is None


def test_an_attempt_that_takes_too_long_is_a_problem_before_it_has_failed() -> None:
    pulse = Pulse()
    pulse.begin(10.0)
    assert pulse.problem(12.0) is None
    assert pulse.problem(14.0) == "the database does not answer"


def test_it_wants_a_probe_when_nobody_writes_and_more_often_when_unwell() -> None:
    pulse = Pulse()
    assert pulse.probes(0.0) == 1
    pulse.begin(10.0)
    assert pulse.probes(100.0) == 0
    pulse.end(100.0, failed=False)
    assert pulse.probes(102.0) == 0
    assert pulse.probes(103.5) == 1
    pulse.begin(104.0)
    pulse.end(104.0, failed=True)
    assert pulse.probes(104.5) == 0
    assert pulse.probes(105.0) == PAGES
    go_well(pulse, 105.0)
    assert pulse.probes(106.0) == PAGES - 1
