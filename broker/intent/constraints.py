"""Constraints on the arguments of a call: well-formed when asked for, and checked on every call.

Types are strict and nothing is normalised: 1, "1" and true are three different values, and text is compared code point
by code point. There are no regular expressions. What is not understood is refused, and so is what the guard and a
server behind it could read differently.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import assert_never
from urllib.parse import urlsplit

from broker.intent import prefixes
from broker.intent.paths import UNCLEAR, Arguments
from broker.model.errors import invalid
from broker.model.grant import Constraint, Operator, Scalar
from broker.model.json_pointer import MISSING, is_pointer

_LONGEST_PATH = 256
_LONGEST_TEXT = 1_024
_MOST_VALUES = 64
_LARGEST_INTEGER = 2**53 - 1


def check_constraint(constraint: Constraint, field: str) -> None:
    """Check that a constraint is well-formed.

    Raises:
        Refusal: INVALID_ARGUMENT, naming what is wrong below `field`.
    """
    path, values = constraint.path, constraint.values
    if len(path) > _LONGEST_PATH or not is_pointer(path):
        raise invalid(f"{field}.path", f"must be a JSON Pointer of at most {_LONGEST_PATH} characters, such as /repo")
    for number, value in enumerate(values):
        if isinstance(value, str) and len(value) > _LONGEST_TEXT:
            raise invalid(f"{field}.values[{number}]", f"must be at most {_LONGEST_TEXT} characters")
        if _is_integer(value) and abs(int(value)) > _LARGEST_INTEGER:
            raise invalid(f"{field}.values[{number}]", "must be from -(2^53-1) to 2^53-1")
    wanted = _operands_wanted(constraint.op, values)
    if wanted:
        raise invalid(f"{field}.values", f"{constraint.op.value} takes {wanted}")


def violation(constraints: Iterable[Constraint], arguments: object) -> Constraint | None:
    """Find the first constraint that the arguments of a call break; None if they keep all.

    `arguments` is parsed JSON. Whatever it is, this raises nothing.
    """
    return next(violations(constraints, arguments), None)


def violations(constraints: Iterable[Constraint], arguments: object) -> Iterator[Constraint]:
    """Find all constraints that the arguments of a call break; else as `violation`."""
    values = Arguments(arguments)
    return (constraint for constraint in constraints if not _holds(constraint, values.at(constraint.path)))


def _operands_wanted(operator: Operator, values: tuple[Scalar, ...]) -> str:  # noqa: PLR0911 (a line per operator)
    """Return what operands an operator takes; empty, if these are such."""
    count = len(values)
    texts = all(isinstance(value, str) for value in values)
    integers = all(_is_integer(value) for value in values)
    match operator:
        case Operator.EQ:
            return "" if count == 1 else "one value"
        case Operator.IN:
            return "" if 1 <= count <= _MOST_VALUES else f"1 to {_MOST_VALUES} values"
        case Operator.PREFIX:
            return "" if count == 1 and texts and values[0] else "one text that is not empty"
        case Operator.RANGE:
            good = len(values) == 2 and integers and values[0] <= values[1]  # type: ignore[operator]  # noqa: PLR2004
            return "" if good else "two integers, the lower first"
        case Operator.MAX_LEN:
            return "" if count == 1 and integers and int(values[0]) >= 0 else "one integer from 0"
        case Operator.HOST_IN:
            return (
                "" if 1 <= count <= _MOST_VALUES and texts and all(map(_is_host, values)) else "lower-case host names"
            )
        case Operator.ABSENT | Operator.PRESENT:
            return "no values" if count else ""
        case _:
            assert_never(operator)


def _holds(constraint: Constraint, value: object) -> bool:  # noqa: C901, PLR0911, PLR0912 (a line per operator)
    operator, operands = constraint.op, constraint.values
    if value in (MISSING, UNCLEAR):
        return value is MISSING and operator is Operator.ABSENT
    match operator:
        case Operator.EQ | Operator.IN:
            return any(_is_same(value, operand) for operand in operands)
        case Operator.PREFIX:
            return isinstance(value, str) and prefixes.starts_within(value, str(operands[0]))
        case Operator.RANGE:
            number = _whole(value)
            return number is not None and int(operands[0]) <= number <= int(operands[1])
        case Operator.MAX_LEN:
            return isinstance(value, (str, list, dict)) and len(value) <= int(operands[0])
        case Operator.HOST_IN:
            return isinstance(value, str) and _host_of(value) in operands
        case Operator.PRESENT:
            return True
        case Operator.ABSENT:
            return False
        case _:
            assert_never(operator)


def _is_same(value: object, operand: Scalar) -> bool:
    if _is_integer(operand):
        return _whole(value) == operand
    return type(value) is type(operand) and value == operand


def _whole(value: object) -> int | None:
    """Return a whole number, however it is written: 10, 10.0 and 1e1 are one integer to JSON Schema (6.1.1).

    None for anything else, and for numbers of which not every reader has each digit.
    """
    if isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST_INTEGER:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _host_of(url: str) -> str | None:
    """Return the host of a plain http or https URL; None for anything that different parsers may read differently."""
    if not url.isascii() or not url.isprintable() or set(url) & set("\\@ "):
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts.hostname if parts.scheme in ("http", "https") and _is_host(parts.hostname) else None


def _is_host(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", value) is not None


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
