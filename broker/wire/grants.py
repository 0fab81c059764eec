"""Grants and constraints."""

from __future__ import annotations

from collections.abc import Iterable

from broker.model.errors import invalid
from broker.model.grant import Constraint, Grant, Operator, ResourceGrants, Scalar
from broker.v1 import grant_pb2 as pb

_TO_WIRE = {operator: pb.Operator.Value(f"OPERATOR_{operator.name}") for operator in Operator}
_FROM_WIRE = {number: operator for operator, number in _TO_WIRE.items()}


def grants_to_wire(grants: Iterable[Grant]) -> list[pb.Grant]:
    """Return grants as messages."""
    return [
        pb.Grant(tool=grant.tool, constraints=[_constraint_to_wire(constraint) for constraint in grant.constraints])
        for grant in grants
    ]


def grants_from_wire(messages: Iterable[pb.Grant], field: str) -> tuple[Grant, ...]:
    """Parse grants.

    Raises:
        Refusal: INVALID_ARGUMENT: an unknown operator, or a scalar of no kind.
    """
    return tuple(
        Grant(
            message.tool,
            tuple(
                _constraint_from_wire(constraint, f"{field}[{number}].constraints[{place}]")
                for place, constraint in enumerate(message.constraints)
            ),
        )
        for number, message in enumerate(messages)
    )


def resources_to_wire(resources: Iterable[ResourceGrants]) -> list[pb.ResourceGrants]:
    """Return declared tools as messages."""
    return [pb.ResourceGrants(resource=item.resource, grants=grants_to_wire(item.grants)) for item in resources]


def resources_from_wire(messages: Iterable[pb.ResourceGrants], field: str) -> tuple[ResourceGrants, ...]:
    """Parse declared tools; else as `grants_from_wire`."""
    return tuple(
        ResourceGrants(message.resource, grants_from_wire(message.grants, f"{field}[{number}].grants"))
        for number, message in enumerate(messages)
    )


def _constraint_to_wire(constraint: Constraint) -> pb.Constraint:
    return pb.Constraint(
        path=constraint.path, op=_TO_WIRE[constraint.op], values=[_scalar_to_wire(value) for value in constraint.values]
    )


def _constraint_from_wire(message: pb.Constraint, field: str) -> Constraint:
    operator = _FROM_WIRE.get(message.op)
    if operator is None:
        raise invalid(f"{field}.op", f"must be one of {', '.join(Operator.__members__)}")
    values = tuple(_scalar_from_wire(value, f"{field}.values[{place}]") for place, value in enumerate(message.values))
    return Constraint(message.path, operator, values)


def _scalar_to_wire(value: Scalar) -> pb.Scalar:
    if isinstance(value, bool):  # before int, which it is to Python
        return pb.Scalar(flag=value)
    return pb.Scalar(integer=value) if isinstance(value, int) else pb.Scalar(text=value)


def _scalar_from_wire(message: pb.Scalar, field: str) -> Scalar:
    kind = message.WhichOneof("kind")
    if kind is None:
        raise invalid(field, "must be a text, an integer or a flag")
    value: Scalar = getattr(message, kind)
    return value
