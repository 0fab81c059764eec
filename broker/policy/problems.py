"""What can be wrong with a bundle: a list of problems, each with its place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from broker.model.errors import CannotStart


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing to mend: the file, relative to the bundle, the line from 1, and what is wrong there."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        """Read as compilers write it, so that editors jump to the place."""
        return f"{self.file}:{self.line}: {self.reason}"


class PolicyBundleError(CannotStart):
    """A bundle that must not be used. `problems` holds everything that was found, in the order of files and lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def place(reason: str, text: str, fallback: int, offset: int = 0) -> int:
    """Guess the line a complaint is about: where the first name in backticks stands in `text`, or else `fallback`.

    The engine's messages hold names but no positions. `offset` is the number of lines before `text`.
    """
    for name in reason.split("`")[1::2]:
        for number, line in enumerate(text.split("\n"), start=1):
            if name in line and not line.lstrip().startswith(("//", "#")):
                return offset + number
    return fallback
