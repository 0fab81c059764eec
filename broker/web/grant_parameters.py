"""What a client asks for, as grants: its scope (RFC 6749 section 3.3) and authorization details (RFC 9396)."""

from __future__ import annotations

from typing import Any

from broker.credential.details import grant_from_detail
from broker.intent import validation
from broker.intent.scopes import check_resource, scope_of
from broker.model import strict_json
from broker.model.errors import invalid
from broker.model.grant import Grant
from broker.web.forms import Form

_DETAILS = "authorization_details"
_PREFIX = scope_of([""])


def resource(form: Form) -> str:
    """Return the one resource asked for: `resource` (RFC 8707), or in a token exchange `audience` (RFC 8693).

    Raises:
        Refusal: INVALID_ARGUMENT.
    """
    named, audience = form.get("resource"), form.get("audience")
    if named and audience and named != audience:
        raise invalid("audience", "must be the resource, or left out")
    uri = named or audience
    if not uri:
        raise invalid("resource", "is required: the URI of the server that the token is for")
    check_resource(uri, "resource")
    return uri


def grants(form: Form, uri: str) -> tuple[Grant, ...]:
    """Return the grants asked for at a resource: tools named by the scope, with the constraints of the details.

    None, if neither is there.

    Raises:
        Refusal: INVALID_ARGUMENT.
    """
    detailed = {grant.tool: grant for grant in _details(form.get(_DETAILS), uri)}
    named = _tools(form.get("scope"))
    if named and (missing := [tool for tool in detailed if tool not in named]):
        raise invalid("scope", f"does not name `{missing[0]}`, which {_DETAILS} does")
    requested = tuple(detailed.get(tool, Grant(tool)) for tool in named) or tuple(detailed.values())
    return validation.grants(requested, _DETAILS if detailed else "scope") if requested else ()


def _tools(scope: str) -> list[str]:
    tools = []
    for item in scope.split(" ") if scope else ():
        if not item.startswith(_PREFIX):
            raise invalid("scope", "must be a list of `tool:NAME`, divided by single spaces")
        tools.append(item.removeprefix(_PREFIX))
    if len(set(tools)) < len(tools):
        raise invalid("scope", "names a tool twice")
    return tools


def _details(text: str, uri: str) -> list[Grant]:
    if not text:
        return []
    try:
        details = strict_json.parse(text.encode(), fractions=False)
    except ValueError as error:
        raise invalid(_DETAILS, f"must be strict JSON: {error}") from error
    if not isinstance(details, list) or not details:
        raise invalid(_DETAILS, "must be a list of objects of the type `tool_call`")
    parsed = [_detail(item, uri, number) for number, item in enumerate(details)]
    if len({grant.tool for grant in parsed}) < len(parsed):
        raise invalid(_DETAILS, "names a tool twice")
    return parsed


def _detail(item: Any, uri: str, number: int) -> Grant:  # noqa: ANN401 (any JSON)
    if isinstance(item, dict):
        item = {"locations": [uri], "constraints": []} | item
    try:
        return grant_from_detail(item, uri)
    except ValueError as error:
        raise invalid(f"{_DETAILS}[{number}]", str(error)) from error
