"""JSON Pointers (RFC 6901): where in a document something stands."""

from __future__ import annotations

import re
from typing import Final

_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)+")
_POSITION = re.compile(r"0|[1-9][0-9]*")
MISSING: Final = object()
"""What is found where nothing is; not even null."""


def is_pointer(text: str) -> bool:
    """Report whether a text is a pointer to something inside a document."""
    return text.isprintable() and _POINTER.fullmatch(text) is not None


def names(pointer: str) -> list[str]:
    """Return the names of the members that lead to where a pointer points."""
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def find(pointer: str, document: object) -> object:
    """Find what a pointer points to in parsed JSON, or MISSING. Whatever they are, this raises nothing."""
    found = document
    for name in names(pointer):
        if isinstance(found, dict):
            found = found.get(name, MISSING)
        elif isinstance(found, list) and is_position(name):
            found = item(found, name)
        else:
            return MISSING
    return found


def is_position(name: str) -> bool:
    """Report whether a name is that of an item of a list: its number from 0, written in the one way."""
    return _POSITION.fullmatch(name) is not None


def item(items: list[object], position: str) -> object:
    """Return the item at a position, or MISSING."""
    place = int(position) if len(position) < 10 else len(items)  # noqa: PLR2004 (no list is that long)
    return items[place] if place < len(items) else MISSING
