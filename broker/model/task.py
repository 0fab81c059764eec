"""Tasks: the purpose without which no credential is issued."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from operator import attrgetter

from broker.model.grant import ResourceGrants


class TaskState(StrEnum):
    """The life of a task; every state but ACTIVE is final."""

    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Environment(StrEnum):
    """Where the task works."""

    DEV = "dev"
    STAGING = "staging"
    PROD = "prod"


RISK_THRESHOLD = 50
"""The highest risk score that a task accepts, where its declaration does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What an orchestrator declares of a task; the fields are those of `Task`.

    `deadline` is an instant, or a duration from when it is declared. `risk_threshold` is from 0 to 100.
    """

    owner: str
    purpose: str
    environment: Environment
    agents: Sequence[str]
    tools: Sequence[ResourceGrants]
    deadline: datetime | timedelta
    risk_threshold: int = RISK_THRESHOLD

    def due(self, at: datetime) -> datetime:
        """Return the deadline of a task that is declared at an instant."""
        return self.deadline if isinstance(self.deadline, datetime) else at + self.deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task as an orchestrator declared it. `revision` grows with every change of what was declared.

    `index` is the ledger index of the entry that began it, `changed_index` of the last that changed it, if any has.
    `leases_issued` follows from the entries of its leases. None of its tokens outlives its deadline.
    """

    id: str
    tenant: str
    owner: str
    purpose: str
    environment: Environment
    agents: tuple[str, ...]
    tools: tuple[ResourceGrants, ...]
    deadline: datetime
    risk_threshold: int
    state: TaskState
    created_at: datetime
    created_by: str
    index: int
    changed_index: int | None = None
    ended_at: datetime | None = None
    leases_issued: int = 0
    revision: int = 0

    def is_live(self, at: datetime) -> bool:
        """Report whether credentials may be issued for it at an instant."""
        return self.state is TaskState.ACTIVE and at < self.deadline

    def same_as(self, other: Task) -> bool:
        """Report whether another copy says the same, but for the count of leases."""
        return _all_but_count(self) == _all_but_count(other)

    def declared(self, resource: str) -> ResourceGrants | None:
        """Find what it declares at a resource."""
        return next((declared for declared in self.tools if declared.resource == resource), None)


_all_but_count = attrgetter(*(field.name for field in fields(Task) if field.name != "leases_issued"))
