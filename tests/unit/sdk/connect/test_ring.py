"""One address of several is in use, and the next when that fails: once, however many calls have failed there."""

from __future__ import annotations

from collections import Counter

import pytest

from broker.sdk.connect.ring import Ring


def test_callers_spread_over_the_addresses() -> None:
    begun = Counter(Ring(["a:1", "b:1", "c:1"]).address for _ in range(600))
    assert set(begun) == {"a:1", "b:1", "c:1"}
    assert min(begun.values()) > 100


@pytest.mark.parametrize(("drawn", "first"), [(0.0, "a:1"), (0.49, "a:1"), (0.5, "b:1"), (0.999, "b:1")])
def test_one_stays_in_use_until_it_is_left(drawn: float, first: str) -> None:
    ring = Ring(["a:1", "b:1"], lambda: drawn)
    assert [ring.address for _ in range(3)] == [first] * 3


def test_whoever_leaves_goes_round() -> None:
    ring = Ring(["a:1", "b:1", "c:1"], lambda: 0.5)
    gone = []
    for _ in range(4):
        gone.append(ring.address)
        assert ring.leave(ring.address)
    assert gone == ["b:1", "c:1", "a:1", "b:1"]


def test_many_who_leave_one_address_leave_it_once() -> None:
    ring = Ring(["a:1", "b:1", "c:1"], lambda: 0.0)
    for _ in range(5):
        assert ring.leave("a:1")
    assert ring.address == "b:1"


@pytest.mark.parametrize("addresses", [["a:1"], ["a:1", "a:1"]])
def test_there_is_nowhere_to_go_from_the_only_one(addresses: list[str]) -> None:
    ring = Ring(addresses, lambda: 0.9)
    assert not ring.leave("a:1")
    assert ring.address == "a:1"
