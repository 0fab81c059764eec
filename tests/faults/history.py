"""What a broker has acknowledged to its callers."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime

from broker.model.errors import Reason, Refusal
from broker.model.task import Task
from broker.sandbox.broker import AGENT, TOOL
from broker.sdk.client.credential import Credential
from broker.sdk.verify.presentation import Presentation
from broker.sdk.verify.verifier import Verifier


@dataclass
class History:
    """Tokens by lease, and what of them has ended; instants are on the monotonic clock of this process."""

    tokens: dict[str, set[str]] = field(default_factory=dict)
    expires: dict[str, datetime] = field(default_factory=dict)  # the latest that was told
    dead: dict[str, float] = field(default_factory=dict)  # since when: released, revoked, or their task has ended
    barred: dict[str, float] = field(default_factory=dict)  # since when: revoked, and the barrier has returned
    created: set[str] = field(default_factory=set)  # tasks
    ended: dict[str, float] = field(default_factory=dict)  # tasks
    of_task: dict[str, set[str]] = field(default_factory=dict)
    unanswered: dict[str, str] = field(default_factory=dict)  # calls under way: the task by request id
    notes: set[str] = field(default_factory=set)  # the signed checkpoints that were shown

    def keep(self, task: Task, credential: Credential) -> None:
        """Note a credential that was issued or renewed."""
        lease_id = credential.lease_id
        self.tokens.setdefault(lease_id, set()).add(credential.token.reveal())
        self.expires[lease_id] = max(credential.expires_at, self.expires.get(lease_id, credential.expires_at))
        self.of_task.setdefault(task.id, set()).add(lease_id)

    def bury(self, *lease_ids: str) -> None:
        """Note that leases were acknowledged as dead."""
        for lease_id in lease_ids:
            self.dead.setdefault(lease_id, time.monotonic())

    def bar(self, lease_id: str) -> None:
        """Note that a lease is dead, and no verifier accepts it."""
        self.bury(lease_id)
        self.barred.setdefault(lease_id, time.monotonic())

    def end(self, task_id: str) -> None:
        """Note that a task has ended, and every lease of it."""
        self.ended[task_id] = time.monotonic()
        self.bury(*self.of_task.get(task_id, ()))

    def alive(self) -> list[str]:
        """List the leases that nobody has ended."""
        return list(self.tokens.keys() - self.dead.keys())


def refusal_of(verifier: Verifier, token: str) -> Reason | None:
    """Try a token as its holder; None: it is accepted."""
    try:
        verifier.check(token, TOOL, {}, Presentation(spiffe_id=AGENT))
    except Refusal as refusal:
        return refusal.reason
    return None
