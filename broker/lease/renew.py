"""Renew a credential: a new token on the same lease, decided anew, up to the lease's greatest lifetime."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from broker.audit.facts import decision_facts, lease_facts, principal_facts
from broker.intent import lifetime
from broker.lease import guards, idempotency, token
from broker.lease.decide import permitted
from broker.lease.desk import Desk
from broker.lease.token import Issued
from broker.model.decision import Action, Decision, Situation
from broker.model.entry import Entry, Kind
from broker.model.errors import Reason, Refusal
from broker.model.lease import Binding, Lease
from broker.model.principal import Principal
from broker.model.task import Task
from broker.store.transaction import AfterCommit, Change, Stale, Transaction

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Permitted:
    """A renewal that policy permits, on its way to the head of the ledger."""

    agent: Principal
    lease: Lease
    task: Task
    asked_lifetime: timedelta | None
    request_id: str
    decision: Decision
    decision_id: str
    asked: bytes


async def renew(
    desk: Desk, agent: Principal, lease_id: str, asked_lifetime: timedelta | None, request_id: str
) -> Issued:
    """Make a new token on a live lease of the caller's.

    Raises:
        Refusal: as in protos/broker/v1/agent_service.proto.
    """
    for attempt in range(_ATTEMPTS):
        copy = _recalled(desk, lease_id) if attempt == 0 else None
        lease = guards.own_lease(copy or await desk.leases.find(lease_id), lease_id, agent)
        task = guards.task_of_agent(await desk.tasks.find(lease.task_id), lease.task_id, agent)
        permit = _decide(desk, agent, lease, task, asked_lifetime, request_id)
        change: Change[Issued] = Change(
            partial(_record, desk, permit),
            tasks=(task.id,),
            leases=(lease.id,),
            requests=idempotency.keys(agent, request_id),
        )
        try:
            return await desk.ledger.write(change)
        except Stale:
            desk.tasks.forget(task.id)
            continue
    raise Refusal(Reason.UNAVAILABLE, f"lease `{lease_id}` keeps changing; try again")


def _recalled(desk: Desk, lease_id: str) -> Lease | None:
    """Recall a lease without a look at the database, if as far as is known here it lives. The head tells the truth."""
    copy = desk.ledger.recall(lease_id)
    return copy if copy is not None and copy.expires_at > desk.clock() else None


def _decide(
    desk: Desk, agent: Principal, lease: Lease, task: Task, asked_lifetime: timedelta | None, request_id: str
) -> _Permitted:
    now = desk.clock()
    guards.live_lease(lease, now)
    guards.live_task(task, now)
    decision_id = desk.ids()
    situation = Situation(
        action=Action.RENEW,
        principal=agent.id,
        tenant=task.tenant,
        resource=lease.resource,
        tools=tuple(grant.tool for grant in lease.grants),
        environment=task.environment,
        purpose=task.purpose,
        owner=task.owner,
        risk_threshold=task.risk_threshold,
        lifetime_seconds=0 if asked_lifetime is None else int(asked_lifetime.total_seconds()),
        renewals=lease.renewals,
        age_seconds=int((now - lease.issued_at).total_seconds()),
        at=now,
    )
    return _Permitted(
        agent=agent,
        lease=lease,
        task=task,
        asked_lifetime=asked_lifetime,
        request_id=request_id,
        decision=permitted(desk.policy(), situation, decision_id),
        decision_id=decision_id,
        asked=idempotency.digest("renew", lease.id, asked_lifetime) if request_id else b"",
    )


def _record(desk: Desk, permit: _Permitted, transaction: Transaction) -> AfterCommit[Issued]:
    """Guard and record, at the head of the ledger."""
    agent, now = permit.agent, transaction.at
    lease = guards.own_lease(transaction.leases.find(permit.lease.id), permit.lease.id, agent)
    if idempotency.earlier_result(transaction, agent, permit.request_id, permit.asked) is not None:
        return AfterCommit(partial(token.again, desk, lease))
    guards.live_lease(lease, now)
    if lease != permit.lease:
        raise Stale
    task = guards.live_task(guards.unchanged(transaction, permit.task), now)
    guards.unlocked(transaction, lease)
    caps: dict[str, datetime | timedelta] = {
        "policy": permit.decision.lifetime_cap,
        "limits.lifetime": desk.limits.lifetime,
        "the task's deadline": task.deadline,
        "the caller's proof of identity": agent.not_after,
        "the lease's total lifetime": lease.max_expires_at,
    }
    if lease.binding is Binding.BEARER:
        caps["limits.bearer_lifetime"] = desk.limits.bearer_lifetime
    expires_at = lifetime.granted(now, permit.asked_lifetime, caps)
    # A shorter life may be asked for, but the token before stays good: the lease ends with the last of its tokens.
    renewed = replace(
        lease,
        expires_at=max(expires_at, lease.expires_at),
        renewals=lease.renewals + 1,
        changed_index=transaction.next_index(),
    )
    written = token.draft(desk, renewed, now)
    transaction.record(
        Entry(
            kind=Kind.LEASE_RENEWED,
            at=now,
            tenant=lease.tenant,
            task_id=lease.task_id,
            observed=principal_facts(agent),
            decided=decision_facts(permit.decision, permit.decision_id),
            effected=lease_facts(renewed) | {"renewals": renewed.renewals},
        )
    )
    transaction.leases.renew(renewed)
    idempotency.remember(transaction, agent, permit.request_id, permit.asked, lease.id)
    return AfterCommit(partial(token.release, desk, renewed, written))
