"""Instants come back as they were, and what is surely past is past."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from broker.model.clock import SurelyPast, from_micros, to_micros


@given(st.integers(0, 253_402_300_799_999_999))
def test_an_instant_comes_back_from_its_microseconds(micros: int) -> None:
    assert to_micros(from_micros(micros)) == micros


SECONDS = st.floats(0, 10**7, allow_nan=False)


@given(
    st.lists(st.tuples(SECONDS, st.integers(-(10**8), 10**8)), min_size=1, max_size=10), st.integers(-86_400, 86_400)
)
def test_what_is_surely_past_is_past_however_the_clock_jumps(jumps: list[tuple[float, int]], ahead: int) -> None:
    true, elapsed = datetime(2030, 1, 1, tzinfo=UTC), 0.0
    shown = true + timedelta(seconds=ahead)
    past = SurelyPast(lambda: shown, lambda: elapsed)
    for seconds, jump in jumps:
        elapsed += seconds
        true += timedelta(seconds=seconds)
        shown = true + timedelta(seconds=jump)
        assert past() <= true + timedelta(seconds=1), "seconds are floats"
        assert past() <= shown - timedelta(days=1)


def test_what_is_surely_past_goes_on_with_time() -> None:
    shown, elapsed = datetime(2030, 1, 3, tzinfo=UTC), 0.0
    past = SurelyPast(lambda: shown, lambda: elapsed)
    assert past() == datetime(2030, 1, 2, tzinfo=UTC)
    shown, elapsed = shown + timedelta(hours=5), 5 * 3_600
    assert past() == datetime(2030, 1, 2, 5, tzinfo=UTC)
