"""Leases: the record of one credential."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from broker.model.grant import Grant


class LeaseState(StrEnum):
    """Where a lease stands at an instant. Never stored: it follows from time and the recorded rules."""

    LIVE = "live"
    EXPIRED = "expired"
    REVOKED = "revoked"


class Binding(StrEnum):
    """In whose hands a token works: the holder's, proven by TLS, or anybody's."""

    IDENTITY = "identity"
    BEARER = "bearer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One lease. `index` is the ledger index of its issue; `revoked_index` that of the rule that ended it."""

    id: str
    tenant: str
    task_id: str
    holder: str
    resource: str
    grants: tuple[Grant, ...]
    binding: Binding
    issued_at: datetime
    expires_at: datetime
    max_expires_at: datetime
    decision_id: str
    policies: tuple[str, ...]
    policy_revision: str
    index: int
    renewals: int = 0
    revoked_index: int | None = None

    def state(self, at: datetime) -> LeaseState:
        """Tell where it stands at an instant. Revocation wins over expiry."""
        if self.revoked_index is not None:
            return LeaseState.REVOKED
        return LeaseState.LIVE if at < self.expires_at else LeaseState.EXPIRED
