"""Issue a credential: a lease on a task, for tools that the task declares."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from broker.audit.facts import grants_to_json
from broker.intent import narrowing
from broker.lease import explanation, guards, idempotency
from broker.lease.desk import Desk
from broker.lease.permit import Access, Permit, obtain
from broker.lease.token import Issued
from broker.model.decision import Action
from broker.model.entry import Json, Kind
from broker.model.intent import Intent
from broker.model.lease import Lease
from broker.model.principal import Principal
from broker.model.task import Task
from broker.store.transaction import Transaction


async def issue(desk: Desk, agent: Principal, intent: Intent) -> Issued:
    """Issue a credential for a task to a proven agent.

    Raises:
        Refusal: as in protos/broker/v1/agent_service.proto.
    """
    case = _Issue(agent, intent, identified(agent, intent))

    async def prepare(_attempt: int) -> _Issue:
        return case

    return await obtain(desk, prepare)


@dataclass(frozen=True, slots=True)
class _Issue:
    action: ClassVar[Action] = Action.ISSUE
    lease_ids: ClassVar[tuple[str, ...]] = ()

    agent: Principal
    intent: Intent
    request: idempotency.Request | None

    @property
    def task_id(self) -> str:
        return self.intent.task_id

    def access(self, task: Task, _at: datetime) -> Access:
        """Ask for the requested tools, or for as much of what the task declares as policy permits."""
        resource, requested = self.intent.resource, self.intent.grants
        return Access(
            resource=resource,
            grants=narrowing.within(task, resource, requested or narrowing.everything(task, resource)),
            lifetime=self.intent.lifetime,
            as_permitted=not requested,
        )

    def hold(self, transaction: Transaction) -> None:
        """Hold nothing: it was decided on the task alone."""

    def draw_up(self, desk: Desk, permit: Permit, transaction: Transaction) -> Lease:
        """Draw a new lease up, if the quotas of task and tenant leave room for it."""
        guards.within_quotas(transaction, permit.task, desk.limits)
        return permit.new_lease(desk, transaction)

    def record(self, desk: Desk, permit: Permit, lease: Lease, transaction: Transaction) -> None:
        """Record the lease, and what the agent says of it."""
        said = explanation.kept(desk, self.intent.explanation, transaction)
        entry = permit.entry(Kind.LEASE_ISSUED, lease, transaction.at, explanation.commitment(said))
        transaction.record(entry, largest="grants")
        transaction.leases.add(lease)
        if said is not None:
            transaction.explanations.add(said)


def identified(agent: Principal, intent: Intent) -> idempotency.Request | None:
    """Return what tells this request from another under the same id."""
    body: dict[str, Json] = {
        "task": intent.task_id,
        "resource": intent.resource,
        "grants": grants_to_json(intent.grants),
        "lifetime": idempotency.micros(intent.lifetime),
        "explanation": intent.explanation,
    }
    return idempotency.identified(agent, intent.request_id, "issue", body)
