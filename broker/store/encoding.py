"""Grants and lists as JSON text, for the columns that hold them whole."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache

from broker.model.entry import Json
from broker.model.grant import Constraint, Grant, Operator, ResourceGrants

_REMEMBERED = 1_000
_LONGEST_REMEMBERED = 1_000  # characters: so that what is remembered is at most a megabyte or few
_dumps = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def grants_to_json(grants: Iterable[Grant]) -> list[Json]:
    """Give grants as plain JSON, the form in which columns and ledger entries hold them."""
    return [
        {"tool": grant.tool, "constraints": [[c.path, c.op.value, list(c.values)] for c in grant.constraints]}
        if grant.constraints
        else {"tool": grant.tool}
        for grant in grants
    ]


def dump_grants(grants: Iterable[Grant]) -> str:
    """Encode grants as JSON text."""
    return _dumps(grants_to_json(grants))


def load_grants(text: str) -> tuple[Grant, ...]:
    """Decode what `dump_grants` made."""
    return _remembered_grants(text) if len(text) <= _LONGEST_REMEMBERED else _parse_grants(text)


def resources_to_json(resources: Iterable[ResourceGrants]) -> list[Json]:
    """Give declared tools as plain JSON."""
    return [{"resource": declared.resource, "grants": grants_to_json(declared.grants)} for declared in resources]


def dump_resources(resources: Iterable[ResourceGrants]) -> str:
    """Encode declared tools as JSON text."""
    return _dumps(resources_to_json(resources))


def load_resources(text: str) -> tuple[ResourceGrants, ...]:
    """Decode what `dump_resources` made."""
    return tuple(
        ResourceGrants(item["resource"], tuple(_grant(grant) for grant in item["grants"])) for item in json.loads(text)
    )


@lru_cache(maxsize=_REMEMBERED)
def dump_names(names: tuple[str, ...]) -> str:
    """Encode names as JSON text."""
    return _dumps(names)


def load_names(text: str) -> tuple[str, ...]:
    """Decode what `dump_names` made."""
    return tuple(json.loads(text))


def _parse_grants(text: str) -> tuple[Grant, ...]:
    return tuple(_grant(item) for item in json.loads(text))


_remembered_grants = lru_cache(maxsize=_REMEMBERED)(_parse_grants)


def _grant(item: dict) -> Grant:  # type: ignore[type-arg]
    return Grant(
        item["tool"],
        tuple(Constraint(path, Operator(op), tuple(values)) for path, op, values in item.get("constraints", ())),
    )
