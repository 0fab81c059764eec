"""What a credential lets a client do at an MCP server: call the tools it grants, and what every client has to."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from broker.model.errors import Hints, Reason, Refusal, invalid
from broker.sdk.verify.admitted import Admitted

CALL = "tools/call"
LIST = "tools/list"
INTRODUCING = frozenset({"initialize", "server/discover"})
SHOWING = INTRODUCING | {LIST}
_FREE = SHOWING | {"ping"}
_NOTIFICATIONS = "notifications/"
_PARAMS = {  # of 2024-11-05 to 2026-07-28
    CALL: frozenset({"_meta", "name", "arguments", "task", "inputResponses", "requestState"}),
    LIST: frozenset({"_meta", "cursor"}),
    "initialize": frozenset({"_meta", "protocolVersion", "capabilities", "clientInfo"}),
    "server/discover": frozenset({"_meta"}),
    "ping": frozenset({"_meta"}),
}
"""What the messages that pass by themselves hold in `params`."""

_NAME = re.compile(r"[A-Za-z0-9_./$-]{1,64}")
# Error codes that a server may define itself are from -32000 on; those from -32020 on are the specification's.
_REFUSED = -32003


def check(admitted: Admitted, method: str, params: object, also: Collection[str] = ()) -> None:
    """Check a message of a client. `also` are methods that any credential may use, beside those that all clients need.

    What is neither is refused: resources and prompts may hold as much as any tool gives, and no grant names them.

    Raises:
        Refusal: TOOL_NOT_GRANTED, ARGUMENT_OUT_OF_BOUNDS; INVALID_ARGUMENT, if a call does not name a tool, or its
            params hold what is not known.
    """
    _check_params(method, params)
    if method == CALL:
        admitted.check(tool_of(params), arguments_of(params))
    elif method not in _FREE and method not in also and not method.startswith(_NOTIFICATIONS):
        name = f"`{method}`" if _NAME.fullmatch(method) else "this method"
        raise Refusal(
            Reason.TOOL_NOT_GRANTED,
            f"a credential grants tools, and {name} calls none",
            Hints(next="use a tool that the credential grants; operators: name the method where the guard is made"),
        )


def tool_of(params: object) -> str:
    """Return the name of the tool that is called.

    Raises:
        Refusal: INVALID_ARGUMENT.
    """
    name = params.get("name") if isinstance(params, Mapping) else None
    if not isinstance(name, str):
        raise invalid("params.name", "must be the name of a tool")
    return name


def arguments_of(params: object) -> object:
    """Return the arguments of a call; none are an empty object, as servers have it.

    Raises:
        Refusal: INVALID_ARGUMENT.
    """
    arguments = params.get("arguments") if isinstance(params, Mapping) else None
    if arguments is None:
        return {}
    if not isinstance(arguments, Mapping):
        raise invalid("params.arguments", "must be an object")
    return arguments


def _check_params(method: str, params: object) -> None:
    """Refuse members that no version of MCP knows: a server that reads names in any case could take them for others."""
    known = _PARAMS.get(method)
    if known is not None and isinstance(params, Mapping) and not params.keys() <= known:
        raise invalid("params", f"must have no members but {', '.join(sorted(known))}, spelled so")


def error_of(refusal: Refusal) -> dict[str, Any]:
    """Return a refusal as a JSON-RPC error: for models in `message`, for programs in `data`."""
    violations = [{"field": v.field, "description": v.description} for v in refusal.violations]
    data = {"reason": refusal.reason.value, **refusal.hints.metadata(), "violations": violations}
    return {"code": _REFUSED, "message": str(refusal), "data": data}
