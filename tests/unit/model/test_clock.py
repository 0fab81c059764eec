"""Ids are version 7 UUIDs, ascending with time, and never the same twice."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.model.clock import SurelyPast, from_micros, to_micros, uuid7, uuid7_in_bulk


@pytest.mark.parametrize("make", [uuid7, uuid7_in_bulk()], ids=["one", "in bulk"])
def test_an_id_is_a_uuid_of_version_7_that_says_when_it_was_made(make: Callable[[], str]) -> None:
    before = datetime.now(UTC)  # noqa: TID251 (what is measured)
    ids = [make() for _ in range(1_000)]
    after = datetime.now(UTC)  # noqa: TID251
    for text in ids:
        parsed = uuid.UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 7, uuid.RFC_4122)
        assert int(before.timestamp() * 1_000) <= parsed.int >> 80 <= int(after.timestamp() * 1_000)
    assert len(set(ids)) == len(ids)


def test_threads_that_share_a_maker_never_get_the_same() -> None:
    make = uuid7_in_bulk()
    made: list[list[str]] = [[] for _ in range(8)]

    def make_some(mine: list[str]) -> None:
        mine.extend(make() for _ in range(3_000))

    threads = [threading.Thread(target=make_some, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    random_parts = [text[19:] for mine in made for text in mine]
    assert len(set(random_parts)) == len(random_parts) == 24_000


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
