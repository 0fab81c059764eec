"""What two parsers could read differently is refused, and so is what is no text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.model import strict_json

ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(st.characters(codec=None), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec=None), max_size=4), inner),
    max_leaves=6,
)


@pytest.mark.parametrize(
    "data",
    [
        rb'"\ud800"',
        rb'"\uDFFF"',
        rb'"a\uD83Db"',
        rb'"\ude00\ud83d"',
        rb'"\ud83d\\ude00"',
        rb'["x", {"y": ["\udc80"]}]',
        rb'{"\ud800": 1}',
        rb'{"a": "\ud83d\ude00\ud83d"}',
    ],
)
def test_half_a_character_is_refused_wherever_it_is_and_told(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"holds half a character \(`\\u"):
        strict_json.parse(data, fractions=True)
    assert strict_json.parse(data, fractions=True, halves=True) == json.loads(data)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (rb'"\ud83d\ude00"', "\U0001f600"),
        (rb'"\\ud800"', "\\ud800"),
        (rb'"\u00e9\uffff\u0000"', "\u00e9\uffff\x00"),
        ('"\U0001f600"'.encode(), "\U0001f600"),
    ],
)
def test_whole_characters_are_taken_however_they_are_written(data: bytes, value: str) -> None:
    assert strict_json.parse(data, fractions=False) == value


@given(ANY)
def test_what_is_taken_is_what_can_be_written_as_text(value: object) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        with pytest.raises(ValueError, match="half a character"):
            strict_json.parse(json.dumps(value).encode(), fractions=False)
    else:
        assert strict_json.parse(json.dumps(value).encode(), fractions=False) == value


@given(st.binary(max_size=40) | st.text('{}[]":,\\\\ud8"0123456789eE.-', max_size=30).map(str.encode))
def test_whatever_comes_is_read_or_refused(data: bytes) -> None:
    try:
        value = strict_json.parse(data, fractions=True)
    except ValueError:
        return
    json.dumps(value, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "data", [b"\xed\xa0\x80", b'"\xed\xa0\x80"', b"\xff", b"[" * 100_000, b'{"a":1,"a":1}', b"NaN", b"1.5"]
)
def test_other_than_strict_json_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        strict_json.parse(data, fractions=False)
