"""Bounds in words: all of them, short enough, and nothing of what the caller gave."""

from __future__ import annotations

from typing import Any

import pytest

from broker.intent.bounds import breaches, described, in_words
from broker.model.grant import Constraint, Operator

LIMIT = Constraint("/limit", Operator.RANGE, (1, 50))


@pytest.mark.parametrize(
    ("operator", "operands", "words"),
    [
        (Operator.EQ, ("acme/web",), 'must be "acme/web"'),
        (Operator.EQ, (True,), "must be true"),
        (Operator.IN, ("a", 2), 'must be one of "a", 2'),
        (Operator.IN, tuple(range(11)), "must be one of 0, 1, 2, 3, 4, 5, 6, 7, … (3 more)"),
        (Operator.PREFIX, ("docs/",), 'must begin with "docs/", and have no `..` as a part'),
        (Operator.RANGE, (1, 50), "must be a whole number from 1 to 50"),
        (Operator.MAX_LEN, (3,), "must be a text, list or object of at most 3 characters, items or members"),
        (Operator.HOST_IN, ("a.example",), 'must be a plain http or https URL of a host out of "a.example"'),
        (Operator.PRESENT, (), "must be there"),
        (Operator.ABSENT, (), "must not be there"),
    ],
)
def test_each_operator_has_words(operator: Operator, operands: tuple[Any, ...], words: str) -> None:
    assert in_words(Constraint("/x", operator, operands)) == words


def test_all_that_is_broken_is_told_and_nothing_of_what_was_given() -> None:
    repo = Constraint("/repo", Operator.EQ, ("acme/web",))
    kept = Constraint("/text", Operator.PRESENT)
    found = breaches([LIMIT, kept, repo], {"limit": "hunter2", "text": 1, "repo": "hunter2"})
    assert [breach.field for breach in found] == ["/limit", "/repo"]
    assert "hunter2" not in str(found)
    assert described([LIMIT, repo]) == '`/limit` must be a whole number from 1 to 50; `/repo` must be "acme/web"'
    assert described([]) == ""


def test_a_second_spelling_is_told_as_one() -> None:
    for arguments in ({"limit": 1, "Limit": 2}, '{"limit": 1}'):
        (breach,) = breaches([LIMIT], arguments)
        assert breach.description.startswith("must be a whole number from 1 to 50; spell its name exactly and once")


def test_words_are_short_however_many_there_are() -> None:
    many = [Constraint(f"/{'x' * 200}{number}", Operator.EQ, ("\u00e9" * 1_000,)) for number in range(64)]
    found = breaches(many, {})
    size = sum(len(breach.field.encode()) + len(breach.description.encode()) for breach in found)
    assert 1 < len(found) < 64
    assert size < 1_500
    assert "64 constraints are broken in all" in found[-1].description
    assert len(described(many)) <= 2_000
