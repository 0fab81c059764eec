"""The parts that requests have in common: each is parsed here once, and refused with the field's name."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from google.protobuf.message import Message

from broker.identity.ids import check_id
from broker.intent import validation
from broker.intent.scopes import check_resource
from broker.model import prose
from broker.model.errors import invalid
from broker.model.names import is_resource, is_tool
from broker.model.secrecy import hide
from broker.model.selector import Selector, Target
from broker.v1 import selector_pb2
from broker.wire.selectors import selector_from_wire
from broker.wire.times import duration_from_wire, instant_from_wire

_ENDABLE = re.compile(r"[A-Za-z0-9-]{1,64}")  # ids of leases and tasks; too short for a token, and without its dots


def required(value: str, field: str) -> str:
    """Parse an id that must be there."""
    if not value:
        raise invalid(field, "is required")
    return value if field == "token" else validation.identifier(value, field)


def request_id(value: str) -> str:
    """Parse a request id, which may be empty."""
    return required(value, "request_id") if value else ""


def text(value: str, field: str, longest: int) -> str:
    """Parse a line of prose that must be there. What looks like a secret in it is hidden: prose is kept and shown."""
    if prose.is_blank(value):
        raise invalid(field, "is required")
    value = hide(value)
    if len(value) > longest:
        raise invalid(field, f"must be at most {longest} characters")
    for number, letter in enumerate(value, 1):
        if not prose.is_harmless(letter):
            raise invalid(
                field,
                "must be one line, without control characters and what changes its direction;"
                f" character {number} is {prose.named(letter)}",
            )
    return value


def resource(value: str) -> str:
    """Parse a resource URI."""
    check_resource(value, "resource")
    return value


def agent(value: str, field: str) -> None:
    """Check the id of a principal."""
    try:
        check_id(value)
    except ValueError as error:
        raise invalid(field, str(error)) from error


def selector(message: selector_pb2.Selector, field: str) -> Selector:
    """Parse a selector whose value can be what it is said to be. It goes into the ledger as it is."""
    parsed = selector_from_wire(message, field)
    if hide(parsed.tenant) != parsed.tenant:
        raise invalid(f"{field}.tenant", "is no tenant: it looks like a secret")
    match parsed.target:
        case Target.LEASE | Target.TASK if not _ENDABLE.fullmatch(parsed.value):
            name = f"{parsed.target.value}_id"
            raise invalid(f"{field}.{name}", "must be an id: at most 64 characters A-Z, a-z, 0-9, `-`; not a token")
        case Target.AGENT:
            agent(parsed.value, f"{field}.agent")
        case Target.TOOL:
            uri, _, tool = parsed.value.rpartition("#")
            if not (is_resource(uri) and is_tool(tool)):
                raise invalid(f"{field}.tool", "must be written `resource#tool`")
        case _:
            pass
    return parsed


def instant(request: Message, field: str) -> datetime:
    """Parse an instant that must be there."""
    if not request.HasField(field):
        raise invalid(field, "is required")
    return instant_from_wire(getattr(request, field), field)


def lifetime(request: Message, field: str) -> timedelta | None:
    """Parse a duration longer than nothing; None if it is absent."""
    if not request.HasField(field):
        return None
    return validation.lifetime(duration_from_wire(getattr(request, field), field), field)
