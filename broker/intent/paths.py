"""Where a constraint's path leads in the arguments of a call, if the guard and the server must agree on that.

The guard reads arguments strictly; the server behind may not. Where it could find something else at the end of a path,
nothing is said to be there, and nothing to be absent either.
"""

from __future__ import annotations

from typing import Final

from broker.model import json_pointer
from broker.model.json_pointer import MISSING
from broker.model.spellings import has_other_spelling

UNCLEAR: Final = object()
"""What is found where two readers may find different things."""


def find(path: str, arguments: object) -> object:
    """Find what a path (a JSON Pointer) leads to in parsed JSON; MISSING, or UNCLEAR. This raises nothing.

    It is UNCLEAR where a member on the way is there in another spelling as well, or instead; where the way leads into
    text, which servers may unpack (as JSON, for clients that pass objects so); and where it leads by a name into a list
    that is not empty, which servers may take for the object it stands for.
    """
    found = arguments
    for name in json_pointer.names(path):
        found = _step(found, name)
        if found is MISSING or found is UNCLEAR:
            break
    return found


def _step(value: object, name: str) -> object:
    if isinstance(value, dict):
        return UNCLEAR if has_other_spelling(name, value) else value.get(name, MISSING)
    if isinstance(value, list):
        if json_pointer.is_position(name):
            return json_pointer.item(value, name)
        return UNCLEAR if value else MISSING
    return UNCLEAR if isinstance(value, (str, bytes)) else MISSING
