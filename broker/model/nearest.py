"""The name that somebody most likely meant. Only ever told, never taken."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_ALIKE = 0.6
_PARTS = re.compile(r"[/:#]")


def nearest(name: str, known: Iterable[str], alike: float = _ALIKE) -> str:
    """Find the known name that is most like another; empty, if none is like it: `alike`, from 0 to 1, says how much.

    Names with parts (`spiffe://example.org/agent/writer`) are compared from where they part ways: what two share says
    nothing about whether one was meant for the other.
    """
    others = ((_likeness(name, other), other) for other in sorted(known) if other != name)
    best, closest = max(others, key=lambda pair: pair[0], default=(0.0, ""))
    return closest if best >= alike else ""


def meant(name: str, known: Iterable[str]) -> str:
    """Ask for the nearest name, in words to be put behind a complaint; empty, if there is none."""
    closest = nearest(name, known)
    return f"; did you mean `{closest}`?" if closest else ""


def _likeness(one: str, other: str) -> float:
    shared = 0
    for part in _PARTS.finditer(one):
        if not other.startswith(one[: part.end()]):
            break
        shared = part.end()
    return difflib.SequenceMatcher(None, one[shared:].lower(), other[shared:].lower()).ratio()
