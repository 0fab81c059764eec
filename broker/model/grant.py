"""Grants: a tool, and the constraints its arguments must keep."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

Scalar = str | int | bool


class Operator(StrEnum):
    """The closed set of comparisons; the values are those of a token's `authorization_details`."""

    EQ = "eq"
    IN = "in"
    PREFIX = "prefix"
    RANGE = "range"
    MAX_LEN = "max_len"
    ABSENT = "absent"
    PRESENT = "present"
    HOST_IN = "host_in"


@dataclass(frozen=True, slots=True)
class Constraint:
    """One condition on a call's arguments: JSON Pointer (RFC 6901), operator, operands.

    How many operands there are, and of which kind, depends on the operator: EQ one scalar; IN one or more scalars;
    PREFIX one text; RANGE two integers, low then high; MAX_LEN one integer; ABSENT and PRESENT none; HOST_IN texts.
    """

    path: str
    op: Operator
    values: tuple[Scalar, ...] = ()


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to call `tool` while every constraint holds."""

    tool: str
    constraints: tuple[Constraint, ...] = ()


@dataclass(frozen=True, slots=True)
class ResourceGrants:
    """The grants at one resource, a tool server named by its URI (RFC 8707)."""

    resource: str
    grants: tuple[Grant, ...]

    def grant(self, tool: str) -> Grant | None:
        """Find the grant for a tool."""
        return next((grant for grant in self.grants if grant.tool == tool), None)


def qualified(resource: str, tool: str) -> str:
    """Name a tool across resources: `resource#tool`. A resource URI has no fragment, so this is unambiguous."""
    return f"{resource}#{tool}"
