"""What a pointer points to, whatever the document is (RFC 6901)."""

from __future__ import annotations

import pytest

from broker.model.json_pointer import MISSING, find, is_pointer

DOCUMENT = {"a": {"b": [10, {"c": None}]}, "x/y": {"m~n": 1}, "0": "zero", "": 0}


@pytest.mark.parametrize(
    ("pointer", "found"),
    [
        ("/a/b", [10, {"c": None}]),
        ("/a/b/0", 10),
        ("/a/b/1/c", None),  # which is not nothing
        ("/x~1y/m~0n", 1),
        ("/0", "zero"),
        ("/", 0),
    ],
)
def test_it_points_to_a_member_or_an_item(pointer: str, found: object) -> None:
    assert is_pointer(pointer)
    assert find(pointer, DOCUMENT) == found


@pytest.mark.parametrize(
    "pointer",
    ["/b", "/a/c", "/a/b/2", "/a/b/-", "/a/b/01", "/a/b/-1", "/a/b/ 0", "/a/b/9999999999999", "/a/b/0/c", "/0/0"],
)
def test_it_points_to_nothing(pointer: str) -> None:
    assert is_pointer(pointer)
    assert find(pointer, DOCUMENT) is MISSING


@pytest.mark.parametrize("text", ["", "a", "a/b", "/~", "/~2", "/a\n", "/\u200b"])
def test_it_is_no_pointer(text: str) -> None:
    assert not is_pointer(text)
