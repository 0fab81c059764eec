"""Leases."""

from __future__ import annotations

from datetime import datetime

from broker.model.lease import Binding, Lease, LeaseState
from broker.v1 import lease_pb2 as pb
from broker.wire.grants import grants_to_wire
from broker.wire.times import instant_to_wire

_STATES = {state: pb.LeaseState.Value(f"LEASE_STATE_{state.name}") for state in LeaseState}
_BINDINGS = {binding: pb.Binding.Value(f"BINDING_{binding.name}") for binding in Binding}


def lease_to_wire(lease: Lease, at: datetime) -> pb.Lease:
    """Return a lease as a message, in its state at an instant."""
    return pb.Lease(
        lease_id=lease.id,
        tenant=lease.tenant,
        task_id=lease.task_id,
        holder=lease.holder,
        resource=lease.resource,
        grants=grants_to_wire(lease.grants),
        issue_time=instant_to_wire(lease.issued_at),
        expire_time=instant_to_wire(lease.expires_at),
        max_expire_time=instant_to_wire(lease.max_expires_at),
        renewals=lease.renewals,
        state=_STATES[lease.state(at)],
        index=lease.index,
        revoked_index=lease.revoked_index,
        policies=lease.policies,
        policy_revision=lease.policy_revision,
        decision_id=lease.decision_id,
        binding=_BINDINGS[lease.binding],
        confirmation=lease.confirmation,
    )
