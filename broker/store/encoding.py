"""Grants and lists as JSON text, for the columns that hold them whole."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache

from broker.audit.facts import grants_from_json, grants_to_json, resources_from_json, resources_to_json
from broker.model.grant import Grant, ResourceGrants

_REMEMBERED = 1_000
_LONGEST_REMEMBERED = 1_000  # characters: so that what is remembered is at most a megabyte or few
_dumps = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def dump_grants(grants: Iterable[Grant]) -> str:
    """Encode grants as JSON text."""
    return _dumps(grants_to_json(grants))


def load_grants(text: str) -> tuple[Grant, ...]:
    """Decode what `dump_grants` made."""
    return _remembered_grants(text) if len(text) <= _LONGEST_REMEMBERED else _parse_grants(text)


def dump_resources(resources: Iterable[ResourceGrants]) -> str:
    """Encode declared tools as JSON text."""
    return _dumps(resources_to_json(resources))


def load_resources(text: str) -> tuple[ResourceGrants, ...]:
    """Decode what `dump_resources` made."""
    return resources_from_json(json.loads(text))


@lru_cache(maxsize=_REMEMBERED)
def dump_names(names: tuple[str, ...]) -> str:
    """Encode names as JSON text."""
    return _dumps(names)


def load_names(text: str) -> tuple[str, ...]:
    """Decode what `dump_names` made."""
    return tuple(json.loads(text))


def _parse_grants(text: str) -> tuple[Grant, ...]:
    return grants_from_json(json.loads(text))


_remembered_grants = lru_cache(maxsize=_REMEMBERED)(_parse_grants)
