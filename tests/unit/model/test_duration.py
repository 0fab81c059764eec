"""Durations: what people write is read, and what is written reads back."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.model.duration import format_duration, parse_duration


@given(st.integers(1, 10**12).map(lambda milliseconds: timedelta(milliseconds=milliseconds)))
def test_a_duration_reads_back_as_it_was_written(span: timedelta) -> None:
    assert parse_duration(format_duration(span)) == span


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90s", timedelta(seconds=90)),
        ("1h30m", timedelta(minutes=90)),
        ("7d", timedelta(days=7)),
        ("250ms", timedelta(seconds=0.25)),
    ],
)
def test_people_write_durations_like_this(text: str, span: timedelta) -> None:
    assert parse_duration(text) == span


@pytest.mark.parametrize("text", ["", "5", "0s", "-5m", "5 m", "1y", "1.5h", "٣s", "9999999d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|no time"):
        parse_duration(text)


@given(st.integers(1, 10**6), st.sampled_from("smhd"))
def test_a_duration_is_a_number_and_a_unit(number: int, unit: str) -> None:
    names = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    assert parse_duration(f"{number}{unit}") == timedelta(**{names[unit]: number})


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("3652500d", timedelta(days=3_652_500)),  # 10,000 years, as google.protobuf.Duration
        ("000000000090s", timedelta(seconds=90)),
        ("1m1h1m", timedelta(minutes=62)),
    ],
)
def test_what_has_one_meaning_is_taken(text: str, span: timedelta) -> None:
    assert parse_duration(text) == span


@pytest.mark.parametrize("text", ["3652501d", "999999999999d", "999999999999d" * 2, "1" * 5_000 + "s"])
def test_what_is_too_long_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is longer than any duration|is not a duration"):
        parse_duration(text)


@given(st.text(max_size=12))
def test_no_text_makes_it_stumble(text: str) -> None:
    with suppress(ValueError):
        assert parse_duration(text) > timedelta(0)
