"""What a process knows of what the callers do, from their records."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tests.history.events import Begin, Revoke
from tests.history.recording import Given, Marked, Reader


@dataclass
class Bus:
    """The tasks, and those that somebody has begun to end; the tokens; and what somebody is about to revoke."""

    reader: Reader
    tasks: dict[str, None] = field(default_factory=dict)
    over: set[str] = field(default_factory=set)
    given: dict[str, Given] = field(default_factory=dict)
    marked: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, folder: Path) -> Bus:
        """Listen to the callers whose records are in a folder."""
        return cls(Reader(folder, "callers*.jsonl"))

    def hear(self) -> None:
        """Take in what is new."""
        for _name, said in self.reader.news():
            match said:
                case Begin() if said.task:
                    self.tasks[said.task] = None
                case Revoke(ends=True):
                    self.over.add(said.task)
                case Given():
                    self.given[said.lease] = said
                case Marked():
                    self.marked.add(said.name)
                case _:
                    pass

    def open_tasks(self) -> list[str]:
        """List the tasks that nobody has begun to end, the oldest first."""
        return [task for task in self.tasks if task not in self.over]

    def unmarked(self) -> list[Given]:
        """List the tokens that nobody is about to revoke, the oldest first."""
        return [given for given in self.given.values() if not self.is_marked(given)]

    def is_marked(self, given: Given) -> bool:
        """Report whether somebody is about to revoke a token, or its task's."""
        return given.lease in self.marked or given.task in self.marked
