"""Where processes record what they do: a file each, a line for each event, which others read as it grows.

An event is written when it begins, and again under its number when it is over: so of a process that is killed there is
all that it had begun. What must be shared beside events goes the same way: a token that was given, and what somebody is
about to revoke.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.history.events import Begin, Event, Issue, Read, Renew, Revoke, Use


@dataclass(frozen=True, slots=True)
class Given:
    """A token, for all who would use or revoke it."""

    lease: str
    task: str
    token: str


@dataclass(frozen=True, slots=True)
class Marked:
    """A lease or a task that somebody is about to revoke: try it all the time from now on."""

    name: str


Said = Event | Given | Marked
_KINDS: dict[str, type[Said]] = {
    kind.__name__: kind for kind in (Begin, Issue, Renew, Revoke, Use, Read, Given, Marked)
}


class Recorder:
    """A process's own file. A line is written at once, and whole."""

    def __init__(self, folder: Path, by: str) -> None:
        """Begin a file in a folder."""
        self.by = by
        self._numbers = itertools.count()
        self._file = (folder / f"{by}.jsonl").open("ab", buffering=0)

    def note(self, said: Said, number: int | None = None) -> int:
        """Write what is new, or what has become of the event of a number; return its number."""
        number = next(self._numbers) if number is None else number
        line = json.dumps({"number": number, "kind": type(said).__name__, **asdict(said)})
        self._file.write(f"{line}\n".encode())
        return number


@dataclass
class Reader:
    """Reads the files of a folder whose names match, as they grow."""

    folder: Path
    matching: str = "*.jsonl"
    _read: dict[Path, int] = field(default_factory=dict)

    def news(self) -> Iterator[tuple[tuple[str, int], Said]]:
        """Yield what was written since the last time, with what names it: file and number."""
        for path in sorted(self.folder.glob(self.matching)):
            start = self._read.get(path, 0)
            with path.open("rb") as file:
                file.seek(start)
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._read[path] = start + len(whole)
            for line in whole.splitlines():
                yield _parsed(path.name, json.loads(line))


def recorded(folder: Path) -> tuple[Event, ...]:
    """Return the events of all processes, each as far as it has come, by when it began."""
    last = {name: said for name, said in Reader(folder).news() if isinstance(said, Event)}
    return tuple(sorted(last.values(), key=lambda event: event.began))


def _parsed(file: str, line: dict[str, Any]) -> tuple[tuple[str, int], Said]:
    number, kind = line.pop("number"), _KINDS[line.pop("kind")]
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in line.items()}
    return (file, number), kind(**fields)
