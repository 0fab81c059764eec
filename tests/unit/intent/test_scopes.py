"""Tools and resources have names that fit into scopes and URIs; lifetimes are the least of all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.intent import lifetime
from broker.intent.scopes import check_resource, check_tool, scope_of
from broker.model.errors import Reason, Refusal
from tests.support.world import REPO, START


@pytest.mark.parametrize("name", ["read_file", "a", "A.b-c_9", "x" * 128])
def test_a_tool_has_such_a_name(name: str) -> None:
    check_tool(name, "tool")


@pytest.mark.parametrize("name", ["", "x" * 129, "a b", "a/b", "a#b", "t\u00f6ol", "a\n", "a:b", '"'])
def test_a_tool_has_no_such_name(name: str) -> None:
    with pytest.raises(Refusal, match="tool"):
        check_tool(name, "tool")


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "repo.example",
        "/repo",
        "https://",
        "https://user@repo.example",
        f"{REPO}#x",
        f"{REPO}/\u00e4",
        f"{REPO}/{'x' * 500}",
        "s" * 40 + "://x",
    ],
)
def test_a_resource_is_an_absolute_uri(uri: str) -> None:
    check_resource(REPO, "resource")
    with pytest.raises(Refusal, match="resource"):
        check_resource(uri, "resource")


def test_a_scope_names_its_tools() -> None:
    assert scope_of(["a", "b"]) == "tool:a tool:b"


CAPS = st.dictionaries(st.text(min_size=1), st.integers(1, 10**6), min_size=1)


@given(st.none() | st.integers(1, 10**6), CAPS, st.integers(0, 999_999))
def test_a_lifetime_is_the_least_of_all_in_whole_seconds(asked: int | None, caps: dict[str, int], micros: int) -> None:
    at = START + timedelta(microseconds=micros)
    requested = None if asked is None else timedelta(seconds=asked)
    end = lifetime.granted(at, requested, {name: timedelta(seconds=cap) for name, cap in caps.items()})
    least = min([*caps.values(), *([] if asked is None else [asked])])
    assert end.microsecond == 0
    assert at < end <= at + timedelta(seconds=least)
    assert end > at + timedelta(seconds=least - 1)


@pytest.mark.parametrize("asked", [timedelta(0), timedelta(seconds=-1), timedelta(milliseconds=999)])
def test_a_lifetime_of_nothing_is_refused(asked: timedelta) -> None:
    with pytest.raises(Refusal) as refused:
        lifetime.granted(START, asked, {"cap": timedelta(hours=1)})
    assert refused.value.reason is Reason.INVALID_ARGUMENT


@pytest.mark.parametrize("cap", [timedelta(0), START, START - timedelta(days=1), datetime(1970, 1, 1, tzinfo=UTC)])
def test_what_is_exhausted_is_named(cap: timedelta | datetime) -> None:
    with pytest.raises(Refusal, match="the task's deadline") as refused:
        lifetime.granted(START, None, {"the task's deadline": cap, "policy": timedelta(hours=1)})
    assert refused.value.reason is Reason.LIFETIME_EXHAUSTED
