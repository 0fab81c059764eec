"""JSON Pointers (RFC 6901): where in a document something stands."""

from __future__ import annotations

import re
from typing import Final

_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)+")
MISSING: Final = object()
"""What is found where nothing is; not even null."""


def is_pointer(text: str) -> bool:
    """Tell whether a text is a pointer to something inside a document."""
    return text.isprintable() and _POINTER.fullmatch(text) is not None


def find(pointer: str, document: object) -> object:
    """Find what a pointer points to in parsed JSON, or MISSING. Whatever they are, this raises nothing."""
    found = document
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = found.get(name, MISSING)
        elif isinstance(found, list) and (name == "0" or (name.isdecimal() and name.isascii() and name[0] != "0")):
            position = int(name) if len(name) < 10 else len(found)  # noqa: PLR2004 (no list is that long)
            found = found[position] if position < len(found) else MISSING
        else:
            return MISSING
    return found
