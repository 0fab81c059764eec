"""What a request may ask for is bounded, and what is out of bounds is told with its field."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from broker.intent import validation
from broker.model.errors import FieldViolation, Reason, Refusal
from broker.model.grant import Constraint, Grant, Operator

HELD = Constraint("/repo", Operator.EQ, ("acme/web",))
READ = Grant("read_file", (HELD,))
TOOLS = tuple(Grant(f"tool_{number}") for number in range(64))


def refused(check: Callable[[], object]) -> FieldViolation:
    with pytest.raises(Refusal) as refusal:
        check()
    assert refusal.value.reason is Reason.INVALID_ARGUMENT
    (violation,) = refusal.value.violations
    return violation


@pytest.mark.parametrize("value", ["7", "~", "!", "x" * 128])
def test_an_id_is_short_and_visible(value: str) -> None:
    assert validation.identifier(value, "request_id") == value


@pytest.mark.parametrize("value", ["", "x" * 129, "a b", "a\n", "\u00e4", "\x7f"])
def test_what_is_no_id_is_told(value: str) -> None:
    violation = refused(lambda: validation.identifier(value, "request_id"))
    assert violation == FieldViolation("request_id", "must be at most 128 visible ASCII characters")


@pytest.mark.parametrize("requested", [(READ,), TOOLS, (Grant("read_file", (HELD,) * 32),)])
def test_as_many_tools_and_constraints_may_be_asked_for(requested: tuple[Grant, ...]) -> None:
    assert validation.grants(list(requested), "grants") == requested


@pytest.mark.parametrize(
    ("requested", "field", "told"),
    [
        ((), "grants", "must name 1 to 64 tools"),
        ((*TOOLS, READ), "grants", "must name 1 to 64 tools"),
        ((READ, Grant("read file")), "grants[1].tool", "must be 1 to 128 characters"),
        ((READ, Grant("list_files"), READ), "grants[2].tool", "`read_file` is named twice"),
        ((Grant("read_file", (HELD,) * 33),), "grants[0].constraints", "must be at most 32"),
        (
            (Grant("read_file", (HELD, Constraint("/limit", Operator.RANGE, (2, 1)))),),
            "grants[0].constraints[1].values",
            "range takes two integers, the lower first",
        ),
    ],
)
def test_what_is_wrong_with_grants_is_told_with_its_place(requested: tuple[Grant, ...], field: str, told: str) -> None:
    violation = refused(lambda: validation.grants(requested, "grants"))
    assert violation.field == field
    assert told in violation.description


@pytest.mark.parametrize("text", ["", "because", "\n\t", "\u00e4" * 2_048])
def test_an_explanation_says_anything_within_its_size(text: str) -> None:
    assert validation.explanation(text) == text


@pytest.mark.parametrize(
    ("text", "told"),
    [("\u00e4" * 2_048 + "x", "must be at most 4096 bytes"), ("a\x00b", "must not hold a null character")],
)
def test_an_explanation_that_cannot_be_kept_is_told(text: str, told: str) -> None:
    assert refused(lambda: validation.explanation(text)) == FieldViolation("explanation", told)


@pytest.mark.parametrize("value", [timedelta(seconds=1), timedelta(days=36_500)])
def test_a_lifetime_is_between_a_second_and_a_century(value: timedelta) -> None:
    assert validation.lifetime(value, "lifetime") == value


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (timedelta(0), "must be at least one second"),
        (timedelta(seconds=-1), "must be at least one second"),
        (timedelta(milliseconds=999), "leave it out for as long as policy allows"),
        (timedelta(days=36_500, seconds=1), "must be at most 36500 days"),
    ],
)
def test_a_lifetime_that_nothing_can_have_is_told(value: timedelta, told: str) -> None:
    violation = refused(lambda: validation.lifetime(value, "lifetime"))
    assert violation.field == "lifetime"
    assert told in violation.description
