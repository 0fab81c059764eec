"""The claims of a token: an RFC 9068 access token that carries its grants as RFC 9396 authorization details."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

from broker.model.grant import Constraint, Grant, Operator, Scalar
from broker.model.lease import Binding

_TYPE = "tool_call"
_PRIVATE = "credbroker"
_CONFIRMATION = "cnf"
_NAMES = frozenset(
    {"iss", "aud", "sub", "client_id", "iat", "nbf", "exp", "jti", "scope", "authorization_details", _PRIVATE}
)
_PRIVATE_NAMES = frozenset({"task", "tenant", "index", "binding"})
_DETAIL_NAMES = frozenset({"type", "locations", "actions", "constraints"})
_LIST_OPERANDS = frozenset({Operator.IN, Operator.RANGE, Operator.HOST_IN})
_NO_OPERANDS = frozenset({Operator.ABSENT, Operator.PRESENT})
_CONFIRMATIONS = {Binding.CERTIFICATE: "x5t#S256", Binding.DPOP: "jkt"}  # RFC 8705 section 3.1, RFC 9449 section 6.1
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")
_LATEST = 253_402_300_799  # the end of the year 9999


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a token says. Instants are whole seconds; `index` is the ledger index of its lease.

    `confirmation` is as in `Lease`.
    """

    issuer: str
    audience: str
    subject: str
    lease_id: str
    task_id: str
    tenant: str
    index: int
    grants: tuple[Grant, ...]
    binding: Binding
    confirmation: str = ""
    issued_at: datetime
    expires_at: datetime

    def grant(self, tool: str) -> Grant | None:
        """Find the grant for a tool."""
        return next((grant for grant in self.grants if grant.tool == tool), None)


def to_payload(claims: Claims) -> dict[str, object]:
    """Return the claims as the members of a JWT."""
    issued_at = int(claims.issued_at.timestamp())
    name = _CONFIRMATIONS.get(claims.binding)
    return {
        "iss": claims.issuer,
        "aud": claims.audience,
        "sub": claims.subject,
        "client_id": claims.subject,
        "iat": issued_at,
        "nbf": issued_at,
        "exp": int(claims.expires_at.timestamp()),
        "jti": claims.lease_id,
        "scope": _scope(claims.grants),
        "authorization_details": [detail_of(claims.audience, grant) for grant in claims.grants],
        _PRIVATE: {
            "task": claims.task_id,
            "tenant": claims.tenant,
            "index": claims.index,
            "binding": claims.binding.value,
        },
        **({} if name is None else {_CONFIRMATION: {name: claims.confirmation}}),
    }


def from_payload(payload: Mapping[str, Any]) -> Claims:
    """Parse the members of a JWT, strictly: what is unknown, missing or of another type refuses.

    Raises:
        ValueError: it is not exactly a token of ours.
    """
    private = payload.get(_PRIVATE)
    if payload.keys() - {_CONFIRMATION} != _NAMES or not isinstance(private, dict) or private.keys() != _PRIVATE_NAMES:
        _refuse("it does not have exactly the claims of a credbroker token")
    for name in ("iss", "aud", "sub", "client_id", "jti", "scope"):
        _text(payload[name], name)
    for name in ("task", "tenant"):
        _text(private[name], f"{_PRIVATE}.{name}")
    if payload["client_id"] != payload["sub"]:
        _refuse("`client_id` is not `sub`")
    details = payload["authorization_details"]
    if not isinstance(details, list) or not details:
        _refuse("`authorization_details` is not a list")
    grants = tuple(grant_from_detail(detail, payload["aud"]) for detail in details)
    if payload["scope"] != _scope(grants):
        _refuse("`scope` and `authorization_details` do not say the same")
    try:
        binding = Binding(private["binding"])
    except ValueError:
        _refuse(f"`{_PRIVATE}.binding` is unknown")
    return Claims(
        issuer=payload["iss"],
        audience=payload["aud"],
        subject=payload["sub"],
        lease_id=payload["jti"],
        task_id=private["task"],
        tenant=private["tenant"],
        index=_integer(private["index"], f"{_PRIVATE}.index"),
        grants=grants,
        binding=binding,
        confirmation=_confirmation(binding, payload),
        issued_at=_instant(max(_integer(payload["iat"], "iat"), _integer(payload["nbf"], "nbf"))),
        expires_at=_instant(_integer(payload["exp"], "exp")),
    )


def _confirmation(binding: Binding, payload: Mapping[str, Any]) -> str:
    name = _CONFIRMATIONS.get(binding)
    if name is None:
        if _CONFIRMATION in payload:
            _refuse("`cnf` does not go with its binding")
        return ""
    found = payload.get(_CONFIRMATION)
    thumbprint = found.get(name) if isinstance(found, dict) and len(found) == 1 else None
    if not isinstance(thumbprint, str) or not _THUMBPRINT.fullmatch(thumbprint):
        _refuse(f"`cnf` is not exactly the `{name}` of its binding")
    return thumbprint


def _scope(grants: tuple[Grant, ...]) -> str:
    return " ".join([f"tool:{grant.tool}" for grant in grants])


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
        _refuse("an object of `authorization_details` is not of the type `tool_call`")
    if detail["locations"] != [audience]:
        _refuse("an object of `authorization_details` is for another resource")
    actions, constraints = detail["actions"], detail["constraints"]
    if not isinstance(actions, list) or len(actions) != 1 or not isinstance(constraints, list):
        _refuse("an object of `authorization_details` is not for exactly one tool")
    return Grant(_text(actions[0], "actions"), tuple(_constraint(item) for item in constraints))


def _constraint(item: object) -> Constraint:
    if not isinstance(item, dict) or not isinstance(item.get("op"), str):
        _refuse("a constraint has no operator")
    try:
        operator = Operator(item["op"])
    except ValueError:
        _refuse("a constraint has an unknown operator")
    names = {"path", "op"} if operator in _NO_OPERANDS else {"path", "op", "value"}
    if item.keys() != names:
        _refuse("a constraint does not have exactly its members")
    path = _text(item["path"], "path")
    if operator in _NO_OPERANDS:
        return Constraint(path, operator)
    value = item["value"]
    values = value if operator in _LIST_OPERANDS else [value]
    if not isinstance(values, list) or not all(isinstance(scalar, (str, int)) for scalar in values):
        _refuse("a constraint has an operand of another type")
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
        _refuse("a constraint has operands of another number or type")
    return tuple(values)


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or not value:
        _refuse(f"`{name}` is not a text")
    return value


def _integer(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LATEST:
        _refuse(f"`{name}` is not a whole number in range")
    return value


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _refuse(what: str) -> NoReturn:
    raise ValueError(what)
