"""Leases: the record of one credential."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from broker.model.grant import Grant
from broker.model.selector import Selector, naming, selectors_of


class LeaseState(StrEnum):
    """Where a lease stands at an instant. Never stored: it follows from time and the recorded rules."""

    LIVE = "live"
    EXPIRED = "expired"
    REVOKED = "revoked"


class Binding(StrEnum):
    """Who may present a token.

    IDENTITY: a TLS peer with the holder's SPIFFE ID. CERTIFICATE: one with the very certificate it was issued to
    (RFC 8705). DPOP: whoever has the key it was issued to (RFC 9449). BEARER: anybody.
    """

    IDENTITY = "identity"
    CERTIFICATE = "certificate"
    DPOP = "dpop"
    BEARER = "bearer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One lease.

    `index` is the ledger index of its issue, `changed_index` that of its last renewal, if there was one,
    `revoked_index` that of the rule that ended it. `closed`: its end is on record, whatever the clock says now.
    `confirmation` is the SHA-256, in base64url, of the certificate or key it is bound to; empty for other bindings.
    """

    id: str
    tenant: str
    task_id: str
    holder: str
    resource: str
    grants: tuple[Grant, ...]
    binding: Binding
    confirmation: str = ""
    issued_at: datetime
    expires_at: datetime
    max_expires_at: datetime
    decision_id: str
    policies: tuple[str, ...]
    policy_revision: str
    index: int
    changed_index: int | None = None
    renewals: int = 0
    closed: bool = False
    revoked_index: int | None = None

    def selectors(self) -> set[Selector]:
        """Return every selector that covers it."""
        return selectors_of(
            tenant=self.tenant,
            lease_ids=(self.id,),
            task_id=self.task_id,
            holder=self.holder,
            resource=self.resource,
            tools=[grant.tool for grant in self.grants],
        )

    def own_selectors(self) -> set[Selector]:
        """Return those of its selectors that leases which are otherwise alike do not share."""
        return naming(self.tenant, (self.id,))

    def state(self, at: datetime) -> LeaseState:
        """Report where it stands at an instant. Revocation wins over expiry."""
        if self.revoked_index is not None:
            return LeaseState.REVOKED
        return LeaseState.LIVE if at < self.expires_at and not self.closed else LeaseState.EXPIRED
