"""What an examination has found: one line for each thing that was looked at, with the remedy where it is not well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from broker.model.errors import CannotStart, Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing: well, if there is no `problem`; then `found` says what it is. `next` is the remedy."""

    subject: str
    found: str = ""
    problem: str = ""
    next: str = ""

    def document(self) -> dict[str, str]:
        """Return it as it is shown."""
        told = {"subject": self.subject, "state": "problem" if self.problem else "ok"}
        return {**told, "found": self.problem or self.found, "next": self.next}


def look(subject: str, at: Callable[[], str]) -> Finding:
    """Look at something: what would stop a start, refusals and what the system says are problems."""
    try:
        return Finding(subject=subject, found=at())
    except Refusal as refusal:
        return Finding(subject=subject, problem=refusal.message, next=refusal.hints.next)
    except CannotStart as problem:
        message, mark, remedy = str(problem).rpartition("; ")  # our messages end with the remedy, behind a semicolon
        return Finding(subject=subject, problem=message if mark else remedy, next=remedy if mark else "")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return Finding(subject=subject, problem=f"{where}{error.strerror or error}", next="see owner, mode and path")
