"""Check what may be asked for: the bounds of a request for a credential, whichever door it comes through."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta

from broker.intent.constraints import check_constraint
from broker.intent.scopes import check_tool
from broker.model.errors import invalid
from broker.model.grant import Grant

_MOST_GRANTS = 64
_MOST_CONSTRAINTS = 32
_LONGEST_ID = 128
_LONGEST_EXPLANATION = 4_096
_LONGEST_LIFETIME = timedelta(days=36_500)  # what is longer ends after the last year there is
_VISIBLE = re.compile(r"[\x21-\x7e]+")


def identifier(value: str, field: str) -> str:
    """Check an id.

    Raises:
        Refusal: INVALID_ARGUMENT, as from all functions here.
    """
    if len(value) > _LONGEST_ID or not _VISIBLE.fullmatch(value):
        raise invalid(field, f"must be at most {_LONGEST_ID} visible ASCII characters")
    return value


def grants(requested: Sequence[Grant], field: str) -> tuple[Grant, ...]:
    """Check grants: 1 to 64 tools, each once, with well-formed constraints."""
    if not 1 <= len(requested) <= _MOST_GRANTS:
        raise invalid(field, f"must name 1 to {_MOST_GRANTS} tools")
    seen: set[str] = set()
    for number, grant in enumerate(requested):
        at = f"{field}[{number}]"
        check_tool(grant.tool, f"{at}.tool")
        if grant.tool in seen:
            raise invalid(f"{at}.tool", f"`{grant.tool}` is named twice")
        seen.add(grant.tool)
        if len(grant.constraints) > _MOST_CONSTRAINTS:
            raise invalid(f"{at}.constraints", f"must be at most {_MOST_CONSTRAINTS}")
        for place, constraint in enumerate(grant.constraints):
            check_constraint(constraint, f"{at}.constraints[{place}]")
    return tuple(requested)


def explanation(value: str) -> str:
    """Parse an explanation, which may be empty. Its content is of no concern."""
    if len(value.encode()) > _LONGEST_EXPLANATION:
        raise invalid("explanation", f"must be at most {_LONGEST_EXPLANATION} bytes")
    if "\x00" in value:
        raise invalid("explanation", "must not hold a null character")
    return value


def lifetime(value: timedelta, field: str) -> timedelta:
    """Check for how long something should live."""
    if value < timedelta(seconds=1):
        raise invalid(field, "must be at least one second; leave it out for as long as policy allows")
    if value > _LONGEST_LIFETIME:
        raise invalid(field, f"must be at most {_LONGEST_LIFETIME.days} days")
    return value
