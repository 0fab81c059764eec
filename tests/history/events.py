"""What a recorded history is made of: what each process asked or tried, when, and what came of it.

Instants are seconds of the machine's monotonic clock, which all its processes share. What failed without an answer may
or may not have been done, at any instant after it began.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

E = TypeVar("E", bound="Event")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that a process did. `ended` is None if no answer has said what came of it."""

    by: str
    began: float
    ended: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin(Event):
    """An orchestrator declared a task, under a request id; `refused` is the reason, if it was."""

    request: str
    task: str = ""
    refused: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue(Event):
    """An agent asked for a credential, under a request id; `lease` and its `index`, if it got one.

    `token` names the identity token that came with it, if that is good for one time: it is used by whoever is let in.
    `proof` names the proof of a key that came with it: it is used by whoever is given something.
    """

    request: str
    task: str
    lease: str = ""
    index: int = -1
    refused: str = ""
    token: str = ""
    proof: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Renew(Event):
    """An agent asked for a new token on a lease; it got one, if it was not `refused`."""

    lease: str
    refused: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoke(Event):
    """Somebody revoked a lease, or all that a task has; with `ends`, the task has ended, and gets no more.

    `rule` names what is done once, however often it is asked for; `index` is its entry's. With `barrier` the answer
    says that nobody accepts any more what it covers.
    """

    rule: str
    lease: str = ""
    task: str = ""
    ends: bool = False
    barrier: bool = False
    index: int = -1
    refused: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use(Event):
    """A token was tried at a verifier, which is who did it."""

    lease: str
    refused: str = ""

    @property
    def accepted(self) -> bool:
        """Report whether it was accepted for certain."""
        return self.ended is not None and not self.refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Read(Event):
    """Somebody looked when all was over: these are the leases that the database holds of a task."""

    task: str
    leases: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the brokers were configured to keep. `window`, in seconds, bounds what is revoked without a barrier."""

    window: float
    leases_per_task: int
    active_tasks: int


@dataclass(frozen=True, slots=True)
class History:
    """What all processes did."""

    events: tuple[Event, ...]
    terms: Terms

    def of(self, kind: type[E]) -> list[E]:
        """List the events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]
