"""The parts that requests have in common: each is parsed here once, and refused with the field's name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from google.protobuf.message import Message

from broker.identity.ids import check_id
from broker.intent.constraints import check_constraint
from broker.intent.scopes import check_resource, check_tool
from broker.model.errors import invalid
from broker.model.grant import Grant, ResourceGrants
from broker.wire.times import duration_from_wire, instant_from_wire

_MOST_GRANTS = 64
_MOST_CONSTRAINTS = 32
_MOST_RESOURCES = 32
_MOST_PER_PAGE = 1_000
_PER_PAGE = 100
_LONGEST_ID = 128
_LONGEST_EXPLANATION = 4_096
_LONGEST_LIFETIME = timedelta(days=36_500)  # what is longer ends after the last year there is
_PURPOSE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_VISIBLE = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Page:
    """Which page is asked for. `position` is where it begins, in the terms of the list; None: at the beginning."""

    position: int | None
    size: int

    def following(self, position: int) -> str:
        """Make the token of the page that begins at a position."""
        return str(position)


def page(request: Message) -> Page:
    """Parse `page_size` and `page_token`."""
    size = request.page_size or _PER_PAGE  # type: ignore[attr-defined]
    if not 1 <= size <= _MOST_PER_PAGE:
        raise invalid("page_size", f"must be from 1 to {_MOST_PER_PAGE}, or 0 for {_PER_PAGE}")
    token: str = request.page_token  # type: ignore[attr-defined]
    if token and not re.fullmatch(r"\d{1,18}", token, re.ASCII):
        raise invalid("page_token", "must be the `next_page_token` of the answer before, or empty")
    return Page(int(token) if token else None, size)


def required(value: str, field: str) -> str:
    """Parse an id that must be there."""
    if not value:
        raise invalid(field, "is required")
    if field != "token" and (len(value) > _LONGEST_ID or not _VISIBLE.fullmatch(value)):
        raise invalid(field, f"must be at most {_LONGEST_ID} visible ASCII characters")
    return value


def request_id(value: str) -> str:
    """Parse a request id, which may be empty."""
    return required(value, "request_id") if value else ""


def text(value: str, field: str, longest: int) -> str:
    """Parse a line of prose that must be there."""
    if not value.strip():
        raise invalid(field, "is required")
    if len(value) > longest or not value.isprintable():
        raise invalid(field, f"must be at most {longest} printable characters on one line")
    return value


def explanation(value: str) -> str:
    """Parse an explanation, which may be empty. Its content is of no concern."""
    if len(value.encode()) > _LONGEST_EXPLANATION:
        raise invalid("explanation", f"must be at most {_LONGEST_EXPLANATION} bytes")
    if "\x00" in value:
        raise invalid("explanation", "must not hold a null character")
    return value


def purpose(value: str) -> str:
    """Parse a purpose code."""
    if not _PURPOSE.fullmatch(value):
        raise invalid("purpose", "must be a code of 1 to 64 characters a-z, 0-9, `.`, `_`, `-`, not prose")
    return value


def resource(value: str) -> str:
    """Parse a resource URI."""
    check_resource(value, "resource")
    return value


def grants(found: Sequence[Grant], field: str) -> tuple[Grant, ...]:
    """Check grants: 1 to 64 tools, each once, with well-formed constraints."""
    if not 1 <= len(found) <= _MOST_GRANTS:
        raise invalid(field, f"must name 1 to {_MOST_GRANTS} tools")
    seen: set[str] = set()
    for number, grant in enumerate(found):
        at = f"{field}[{number}]"
        check_tool(grant.tool, f"{at}.tool")
        if grant.tool in seen:
            raise invalid(f"{at}.tool", f"`{grant.tool}` is named twice")
        seen.add(grant.tool)
        if len(grant.constraints) > _MOST_CONSTRAINTS:
            raise invalid(f"{at}.constraints", f"must be at most {_MOST_CONSTRAINTS}")
        for place, constraint in enumerate(grant.constraints):
            check_constraint(constraint, f"{at}.constraints[{place}]")
    return tuple(found)


def declared(found: Sequence[ResourceGrants]) -> tuple[ResourceGrants, ...]:
    """Check what a task declares: 1 to 32 resources, each once."""
    if not 1 <= len(found) <= _MOST_RESOURCES:
        raise invalid("tools", f"must name 1 to {_MOST_RESOURCES} resources")
    seen: set[str] = set()
    for number, item in enumerate(found):
        check_resource(item.resource, f"tools[{number}].resource")
        if item.resource in seen:
            raise invalid(f"tools[{number}].resource", f"`{item.resource}` is named twice")
        seen.add(item.resource)
        grants(item.grants, f"tools[{number}].grants")
    return tuple(found)


def agents(found: Iterable[str], most: int) -> tuple[str, ...]:
    """Check the agents of a task: the ids of principals, each once."""
    ids = tuple(found)
    if not 1 <= len(ids) <= most:
        raise invalid("agents", f"must name 1 to {most} agents")
    for number, agent in enumerate(ids):
        try:
            check_id(agent)
        except ValueError as error:
            raise invalid(f"agents[{number}]", str(error)) from error
        if agent in ids[:number]:
            raise invalid(f"agents[{number}]", "is named twice")
    return ids


def instant(request: Message, field: str) -> datetime:
    """Parse an instant that must be there."""
    if not request.HasField(field):
        raise invalid(field, "is required")
    return instant_from_wire(getattr(request, field), field)


def lifetime(request: Message, field: str) -> timedelta | None:
    """Parse a duration longer than nothing; None if it is absent."""
    if not request.HasField(field):
        return None
    found = duration_from_wire(getattr(request, field), field)
    if found < timedelta(seconds=1):
        raise invalid(field, "must be at least one second; leave it out for as long as policy allows")
    if found > _LONGEST_LIFETIME:
        raise invalid(field, f"must be at most {_LONGEST_LIFETIME.days} days")
    return found
