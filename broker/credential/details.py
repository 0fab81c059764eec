"""Grants as a token says them: objects of RFC 9396 authorization details, of the type `tool_call`.

{"type": "tool_call", "locations": [RESOURCE], "actions": [TOOL],
 "constraints": [{"path": "/repo", "op": "eq", "value": "acme/web"}]}
"""

from __future__ import annotations

from broker.credential.reading import refuse, text
from broker.model.grant import Constraint, Grant, Operator, Scalar

_TYPE = "tool_call"
_DETAIL_NAMES = frozenset({"type", "locations", "actions", "constraints"})
_LIST_OPERANDS = frozenset({Operator.IN, Operator.RANGE, Operator.HOST_IN})
_NO_OPERANDS = frozenset({Operator.ABSENT, Operator.PRESENT})


def detail_of(audience: str, grant: Grant) -> dict[str, object]:
    """Return a grant at a resource as an object of `authorization_details` (RFC 9396 section 2)."""
    return {
        "type": _TYPE,
        "locations": [audience],
        "actions": [grant.tool],
        "constraints": [_constraint_to_json(constraint) for constraint in grant.constraints],
    }


def _constraint_to_json(constraint: Constraint) -> dict[str, object]:
    plain: dict[str, object] = {"path": constraint.path, "op": constraint.op.value}
    if constraint.op in _LIST_OPERANDS:
        plain["value"] = list(constraint.values)
    elif constraint.op not in _NO_OPERANDS:
        plain["value"] = constraint.values[0]
    return plain


def grant_from_detail(detail: object, audience: str) -> Grant:
    """Parse one object of `authorization_details`, for a resource.

    Raises:
        ValueError: it is malformed.
    """
    if not isinstance(detail, dict) or detail.keys() != _DETAIL_NAMES or detail["type"] != _TYPE:
        refuse("an object of `authorization_details` is not of the type `tool_call`")
    if detail["locations"] != [audience]:
        refuse("an object of `authorization_details` is for another resource")
    actions, constraints = detail["actions"], detail["constraints"]
    if not isinstance(actions, list) or len(actions) != 1 or not isinstance(constraints, list):
        refuse("an object of `authorization_details` is not for exactly one tool")
    return Grant(text(actions[0], "actions"), tuple(_constraint(item) for item in constraints))


def _constraint(item: object) -> Constraint:
    if not isinstance(item, dict) or not isinstance(item.get("op"), str):
        refuse("a constraint has no operator")
    try:
        operator = Operator(item["op"])
    except ValueError:
        refuse("a constraint has an unknown operator")
    names = {"path", "op"} if operator in _NO_OPERANDS else {"path", "op", "value"}
    if item.keys() != names:
        refuse("a constraint does not have exactly its members")
    path = text(item["path"], "path")
    if operator in _NO_OPERANDS:
        return Constraint(path, operator)
    value = item["value"]
    values = value if operator in _LIST_OPERANDS else [value]
    if not isinstance(values, list) or not all(isinstance(scalar, (str, int)) for scalar in values):
        refuse("a constraint has an operand of another type")
    return Constraint(path, operator, _operands(operator, values))


def _operands(operator: Operator, values: list[Scalar]) -> tuple[Scalar, ...]:
    """Check operands as far as evaluating them relies on it."""
    integers = [isinstance(value, int) and not isinstance(value, bool) for value in values]
    texts = [isinstance(value, str) for value in values]
    good = {
        Operator.RANGE: len(values) == 2 and all(integers),  # noqa: PLR2004 (from and to)
        Operator.MAX_LEN: all(integers),
        Operator.PREFIX: all(texts),
        Operator.HOST_IN: all(texts),
    }
    if not values or not good.get(operator, True):
        refuse("a constraint has operands of another number or type")
    return tuple(values)
