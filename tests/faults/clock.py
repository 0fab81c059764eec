"""A clock that jumps: the system's, and an offset that a file says. Whoever writes the file moves the clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from broker.system import system_clock


@dataclass(frozen=True, slots=True)
class SteeredClock:
    """A clock for another process, steered by a file."""

    file: Path

    def __call__(self) -> datetime:
        """Return the instant."""
        return system_clock() + self.offset()

    def offset(self) -> timedelta:
        """Return how far it is off."""
        try:
            return timedelta(seconds=float(self.file.read_text()))
        except FileNotFoundError:
            return timedelta()

    def put_off(self, by: timedelta) -> None:
        """Make it be off by so much, at once."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text(str(by.total_seconds()))
        fresh.replace(self.file)
