"""Where a constraint's path leads in the arguments of a call, if the guard and the server must agree on that.

The guard reads arguments strictly; the server behind may not. Where it could find something else at the end of a path,
nothing is said to be there, and nothing to be absent either.
"""

from __future__ import annotations

from typing import Final

from broker.model import json_pointer
from broker.model.json_pointer import MISSING
from broker.model.spellings import folded

_INHERITED = "__proto__"  # what it holds, JavaScript finds in the object itself once that is copied
UNCLEAR: Final = object()
"""What is found where two readers may find different things."""


class Arguments:
    """The arguments of one call, as parsed JSON."""

    def __init__(self, document: object) -> None:
        """Look at nothing yet."""
        self._document = document
        self._spellings: dict[int, list[str]] = {}  # of the members of each object on some path; taken once

    def at(self, path: str) -> object:
        """Find what a path (a JSON Pointer) leads to; MISSING, or UNCLEAR. This raises nothing.

        It is UNCLEAR where a member on the way is there in another spelling as well, or instead; where the way leads
        into text, which servers may unpack (as JSON, for clients that pass objects so); and where it leads by a name
        into a list that is not empty, which servers may take for the object it stands for.
        """
        value = self._document
        for name in json_pointer.names(path):
            value = self._step(value, name)
            if value is MISSING or value is UNCLEAR:
                break
        return value

    def _step(self, value: object, name: str) -> object:
        if isinstance(value, dict):
            return self._member(value, name)
        if isinstance(value, list):
            if json_pointer.is_position(name):
                return json_pointer.item(value, name)
            return UNCLEAR if value else MISSING
        return UNCLEAR if isinstance(value, (str, bytes)) else MISSING

    def _member(self, members: dict[str, object], name: str) -> object:
        spellings = self._spellings.get(id(members))
        if spellings is None:
            spellings = self._spellings[id(members)] = [folded(member) for member in members]
        if spellings.count(folded(name)) != (name in members) or _INHERITED in members:
            return UNCLEAR
        return members.get(name, MISSING)
