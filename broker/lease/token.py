"""The token of a lease: written and measured before the lease is recorded, signed once it is durable."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from broker.credential import jose
from broker.credential.claims import Claims
from broker.credential.jose import LONGEST_ISSUED, Unsigned
from broker.lease import guards
from broker.lease.desk import Desk
from broker.model.errors import Refusal, invalid
from broker.model.lease import Lease
from broker.store.encoding import dump_grants


@dataclass(frozen=True, slots=True)
class Issued:
    """A lease, and the token that goes to its holder and nowhere else."""

    lease: Lease
    token: str

    def __repr__(self) -> str:
        """Show the lease alone."""
        return f"Issued({self.lease.id})"


def draft(desk: Desk, lease: Lease, at: datetime) -> Unsigned:
    """Write the token of a lease.

    Raises:
        Refusal: INVALID_ARGUMENT, if it would be too long for the headers in which it has to travel.
    """
    written = jose.unsigned(
        Claims(
            issuer=desk.issuer,
            audience=lease.resource,
            subject=lease.holder,
            lease_id=lease.id,
            task_id=lease.task_id,
            tenant=lease.tenant,
            index=lease.index,
            grants=lease.grants,
            binding=lease.binding,
            confirmation=lease.confirmation,
            issued_at=at,
            expires_at=lease.expires_at,
        ),
        desk.signer(),
    )
    if written.size > LONGEST_ISSUED:
        raise _too_long(desk, lease, written.size)
    return written


def release(desk: Desk, lease: Lease, written: Unsigned) -> Issued:
    """Sign the token of a lease that is on record. For a dead lease refuse: there is nothing to hand out."""
    guards.live_lease(lease, desk.clock())
    return Issued(lease, written.sign())


def again(desk: Desk, lease: Lease) -> Issued:
    """Make another token for a lease that is on record; else as `release`."""
    now = desk.clock()
    return release(desk, guards.live_lease(lease, now), draft(desk, lease, now))


def _too_long(desk: Desk, lease: Lease, size: int) -> Refusal:
    """Name the largest part, and what can be done about it. The holder and the resource stand in a token twice."""
    grants = len(dump_grants(lease.grants).encode()) + len(lease.resource) * len(lease.grants)
    parts = {
        "grants": (grants, "ask for fewer tools at once, or for shorter constraints"),
        "principal": (2 * len(lease.holder), "give the workload a shorter id"),
        "resource": (len(lease.resource), "give the tool server a shorter URI"),
        "issuer": (len(desk.issuer), "operators: give the broker a shorter `issuer`"),
    }
    field = max(parts, key=lambda name: parts[name][0])
    return invalid(field, f"makes a token of {size} bytes, and one has at most {LONGEST_ISSUED}: {parts[field][1]}")
