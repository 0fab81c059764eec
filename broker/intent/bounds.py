"""Constraints in words, for whoever has to keep them: a model that reads what a tool takes, or why a call was refused.

They are the caller's own, out of its own credential. Words are cut short where they would be long, as they go into
headers and into contexts that are paid for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import assert_never

from broker.intent.constraints import violations
from broker.intent.paths import UNCLEAR, Arguments
from broker.model.errors import FieldViolation
from broker.model.grant import Constraint, Operator, Scalar

_LONGEST_VALUE = 80  # characters
_MOST_VALUES = 8
_LONGEST_BREACHES = 1_000  # bytes, so that they fit into the trailing metadata of a gRPC call
_LONGEST_TOLD = 2_000  # characters


def described(constraints: Iterable[Constraint]) -> str:
    """Return all constraints on a tool's arguments in words; empty, if there are none."""
    return _short("; ".join(f"`{c.path}` {in_words(c)}" for c in constraints), _LONGEST_TOLD)


def breaches(constraints: Iterable[Constraint], arguments: object) -> tuple[FieldViolation, ...]:
    """Report, for all constraints that the arguments of a call break, what the argument must be.

    What it was stays unsaid: that is the caller's business, and may be a secret.
    """
    values, reported, size = Arguments(arguments), list[FieldViolation](), 0
    broken = list(violations(constraints, arguments))
    for constraint in broken:
        words = in_words(constraint)
        if values.at(constraint.path) is UNCLEAR:
            words += "; spell its name exactly and once, and give what holds it as an object, not as text"
        size += len(constraint.path.encode()) + len(words.encode())
        if reported and size > _LONGEST_BREACHES:
            words = f"is out of bounds; {len(broken)} constraints are broken in all"
            return (*reported, FieldViolation(constraint.path, words))
        reported.append(FieldViolation(constraint.path, words))
    return tuple(reported)


def in_words(constraint: Constraint) -> str:  # noqa: C901, PLR0911, PLR0912 (a line per operator)
    """Return what an argument must be."""
    values = constraint.values
    match constraint.op:
        case Operator.EQ:
            return f"must be {_listed(values)}"
        case Operator.IN:
            return f"must be one of {_listed(values)}"
        case Operator.PREFIX:
            return f"must begin with {_listed(values)}, and have no `..` as a part"
        case Operator.RANGE:
            return f"must be a whole number from {values[0]} to {values[1]}"
        case Operator.MAX_LEN:
            return f"must be a text, list or object of at most {values[0]} characters, items or members"
        case Operator.HOST_IN:
            return f"must be a plain http or https URL of a host out of {_listed(values)}"
        case Operator.PRESENT:
            return "must be there"
        case Operator.ABSENT:
            return "must not be there"
        case _:
            assert_never(constraint.op)


def _listed(values: tuple[Scalar, ...]) -> str:
    more = f", … ({len(values) - _MOST_VALUES} more)" if len(values) > _MOST_VALUES else ""
    listed = (_short(json.dumps(value, ensure_ascii=False), _LONGEST_VALUE) for value in values[:_MOST_VALUES])
    return ", ".join(listed) + more


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
