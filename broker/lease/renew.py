"""Renew a credential: a new token on the same lease, decided anew, up to the lease's greatest lifetime."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import ClassVar

from broker.lease import guards, idempotency
from broker.lease.bind import Confirmation
from broker.lease.desk import Desk
from broker.lease.permit import Access, Permit, obtain
from broker.lease.token import Issued
from broker.model.decision import Action
from broker.model.entry import Json, Kind
from broker.model.lease import Lease
from broker.model.principal import Principal
from broker.model.task import Task
from broker.store.transaction import Transaction


async def renew(desk: Desk, agent: Principal, lease_id: str, lifetime: timedelta | None, request_id: str) -> Issued:
    """Make a new token on a live lease of the caller's.

    Raises:
        Refusal: as in protos/broker/v1/agent_service.proto.
    """
    body: dict[str, Json] = {"lease": lease_id, "lifetime": idempotency.micros(lifetime)}
    request = idempotency.identified(agent, request_id, "renew", body)

    async def prepare(attempt: int) -> _Renewal:
        copy = _recalled(desk, lease_id) if attempt == 0 else None
        lease = guards.own_lease(copy or await desk.leases.find(lease_id), lease_id, agent)
        return _Renewal(agent, guards.live_lease(lease, desk.clock()), lifetime, request)

    return await obtain(desk, prepare)


@dataclass(frozen=True, slots=True)
class _Renewal:
    """The renewal of a lease, of which this is a copy."""

    action: ClassVar[Action] = Action.RENEW

    agent: Principal
    lease: Lease
    lifetime: timedelta | None
    request: idempotency.Request | None

    @property
    def task_id(self) -> str:
        return self.lease.task_id

    @property
    def lease_ids(self) -> tuple[str, ...]:
        return (self.lease.id,)

    def access(self, _task: Task, at: datetime) -> Access:
        """Ask for what was granted; the lease stays bound as it is."""
        return Access(
            resource=self.lease.resource,
            grants=self.lease.grants,
            lifetime=self.lifetime,
            renewals=self.lease.renewals,
            age=at - self.lease.issued_at,
            confirmation=Confirmation(self.lease.binding, self.lease.confirmation),
        )

    def hold(self, transaction: Transaction) -> None:
        """Hold the copy against the lease as it is now."""
        guards.unchanged_lease(transaction, self.lease, self.agent)

    def draw_up(self, desk: Desk, permit: Permit, transaction: Transaction) -> Lease:
        """Prolong the lease. A token before may live longer than was asked for now: a lease ends with its last."""
        ends = {"the lease's total lifetime": self.lease.max_expires_at}
        return replace(
            self.lease,
            expires_at=max(permit.expiry(desk.limits, transaction.at, ends), self.lease.expires_at),
            renewals=self.lease.renewals + 1,
            changed_index=transaction.next_index(),
        )

    def record(self, _desk: Desk, permit: Permit, lease: Lease, transaction: Transaction) -> None:
        """Record the lease's new end."""
        transaction.record(permit.entry(Kind.LEASE_RENEWED, lease, transaction.at, asserted={}))
        transaction.leases.renew(lease)


def _recalled(desk: Desk, lease_id: str) -> Lease | None:
    """Recall a lease without a look at the database, if as far as is known here it lives. The head tells the truth."""
    copy = desk.ledger.recall(lease_id)
    return copy if copy is not None and copy.expires_at > desk.clock() else None
