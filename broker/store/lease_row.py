"""A lease as it is stored."""

from __future__ import annotations

from typing import NamedTuple

from broker.model.clock import from_micros, to_micros
from broker.model.lease import Binding, Lease
from broker.store.encoding import dump_grants, dump_names, load_grants, load_names


class LeaseRow(NamedTuple):
    """One row; the members are the columns. It costs a third of SQLAlchemy's access by name, at each renewal."""

    id: str
    tenant: str
    task_id: str
    holder: str
    resource: str
    grants: str
    binding: str
    confirmation: str
    issued_at: int
    expires_at: int
    max_expires_at: int
    renewals: int
    decision_id: str
    policies: str
    policy_revision: str
    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody asks a lease for
    closed: bool
    changed_index: int | None

    @classmethod
    def of(cls, lease: Lease) -> LeaseRow:
        """Return the row of a lease."""
        return cls(
            id=lease.id,
            tenant=lease.tenant,
            task_id=lease.task_id,
            holder=lease.holder,
            resource=lease.resource,
            grants=dump_grants(lease.grants),
            binding=lease.binding.value,
            confirmation=lease.confirmation,
            issued_at=to_micros(lease.issued_at),
            expires_at=to_micros(lease.expires_at),
            max_expires_at=to_micros(lease.max_expires_at),
            renewals=lease.renewals,
            decision_id=lease.decision_id,
            policies=dump_names(lease.policies),
            policy_revision=lease.policy_revision,
            index=lease.index,
            closed=lease.closed,
            changed_index=lease.changed_index,
        )

    def lease(self) -> Lease:
        """Return the lease, whatever rules say of it."""
        return Lease(
            id=self.id,
            tenant=self.tenant,
            task_id=self.task_id,
            holder=self.holder,
            resource=self.resource,
            grants=load_grants(self.grants),
            binding=Binding(self.binding),
            confirmation=self.confirmation,
            issued_at=from_micros(self.issued_at),
            expires_at=from_micros(self.expires_at),
            max_expires_at=from_micros(self.max_expires_at),
            renewals=self.renewals,
            decision_id=self.decision_id,
            policies=load_names(self.policies),
            policy_revision=self.policy_revision,
            index=self.index,
            closed=self.closed,
            changed_index=self.changed_index,
        )
