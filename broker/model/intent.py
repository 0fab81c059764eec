"""What a caller wants, parsed and bounded."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from broker.model.grant import Grant


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A request for a credential.

    `lifetime` None: as long as policy allows. No `grants`: what the task declares at the resource, as far as policy
    permits each tool.
    `explanation` is what a model said about itself: recorded as a commitment, seen by nothing that decides (law 5).
    """

    task_id: str
    resource: str
    grants: tuple[Grant, ...]
    lifetime: timedelta | None = None
    request_id: str = ""
    explanation: str = ""
