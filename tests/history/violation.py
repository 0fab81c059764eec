"""A law that a history breaks, and the events that show it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, fields

from tests.history.events import Event

_SHOWN = 3
_TIMES = frozenset({"by", "began", "ended"})


@dataclass(frozen=True, slots=True)
class Violation:
    """A law that was broken, how, and the events that show it."""

    law: str
    what: str
    events: tuple[Event, ...]


def report(found: Iterable[Violation]) -> str:
    """Tell of violations, the first few of each law, with an event on each line, by the seconds since its first."""
    by_law: dict[str, list[Violation]] = defaultdict(list)
    for violation in found:
        by_law[violation.law].append(violation)
    lines = []
    for law, broken in by_law.items():
        lines.append(f"{law}: {len(broken)} times")
        for violation in broken[:_SHOWN]:
            lines.append(f"  {violation.what}")
            since = min((event.began for event in violation.events), default=0.0)
            lines += [f"    {_line(event, since)}" for event in violation.events]
    return "\n".join(lines)


def _line(event: Event, since: float) -> str:
    until = "no answer" if event.ended is None else f"{event.ended - since:.3f}"
    said = {field.name: getattr(event, field.name) for field in fields(event) if field.name not in _TIMES}
    told = " ".join(f"{name}={value}" for name, value in said.items() if value not in ("", -1, False))
    return f"{event.began - since:8.3f} to {until:>9}  {event.by}: {type(event).__name__.lower()} {told}"
