"""Issue a credential: decide, commit, sign, release. In this order, always."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from broker.audit import canonical
from broker.audit.facts import decision_facts, lease_facts, principal_facts
from broker.intent import lifetime, narrowing
from broker.lease import guards, idempotency, token
from broker.lease.bind import Confirmation, bind
from broker.lease.decide import permitted, permitted_tools
from broker.lease.desk import Desk
from broker.lease.token import Issued
from broker.model.decision import Action, Decision, Situation
from broker.model.entry import Entry, Kind
from broker.model.errors import Reason, Refusal
from broker.model.grant import Grant
from broker.model.intent import Intent
from broker.model.lease import Binding, Lease
from broker.model.principal import Principal
from broker.model.task import Task
from broker.store.explanations import Explanation
from broker.store.transaction import AfterCommit, Change, Stale, Transaction

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Permitted:
    """A request that policy permits, on its way to the head of the ledger. `asked` is the request's digest."""

    agent: Principal
    intent: Intent
    task: Task
    grants: tuple[Grant, ...]
    decision: Decision
    decision_id: str
    confirmation: Confirmation
    asked: bytes


async def issue(desk: Desk, agent: Principal, intent: Intent) -> Issued:
    """Issue a credential for a task to a proven agent.

    Raises:
        Refusal: as in protos/broker/v1/agent_service.proto.
    """
    for _ in range(_ATTEMPTS):
        task = guards.task_of_agent(await desk.tasks.find(intent.task_id), intent.task_id, agent)
        permit = _decide(desk, agent, intent, task)
        try:
            return await _commit(desk, permit)
        except Stale:
            desk.tasks.forget(task.id)
            continue
    raise Refusal(Reason.UNAVAILABLE, f"task `{intent.task_id}` keeps changing; try again")


def _decide(desk: Desk, agent: Principal, intent: Intent, task: Task) -> _Permitted:
    """Decide on this copy of the task. Nothing is recorded yet."""
    now = desk.clock()
    guards.live_task(task, now)
    grants = narrowing.within(task, intent.resource, intent.grants or narrowing.everything(task, intent.resource))
    decision_id = desk.ids()
    situation = Situation(
        action=Action.ISSUE,
        principal=agent.id,
        tenant=task.tenant,
        resource=intent.resource,
        tools=tuple(grant.tool for grant in grants),
        environment=task.environment,
        purpose=task.purpose,
        owner=task.owner,
        risk_threshold=task.risk_threshold,
        lifetime_seconds=0 if intent.lifetime is None else int(intent.lifetime.total_seconds()),
        renewals=0,
        age_seconds=0,
        at=now,
    )
    if not intent.grants and (tools := permitted_tools(desk.policy(), situation)):
        situation = replace(situation, tools=tools)
        grants = tuple(grant for grant in grants if grant.tool in tools)
    decision = permitted(desk.policy(), situation, decision_id)
    return _Permitted(
        agent=agent,
        intent=intent,
        task=task,
        grants=grants,
        decision=decision,
        decision_id=decision_id,
        confirmation=bind(decision.binding, agent),
        asked=idempotency.digest("issue", intent) if intent.request_id else b"",
    )


async def _commit(desk: Desk, permit: _Permitted) -> Issued:
    """Commit, if what was decided on is still the truth, and sign."""
    request = idempotency.keys(permit.agent, permit.intent.request_id)
    change: Change[Issued | str] = Change(partial(_record, desk, permit), tasks=(permit.task.id,), requests=request)
    outcome = await desk.ledger.write(change)
    if isinstance(outcome, Issued):
        return outcome
    return await desk.ledger.write(Change(partial(_again, desk, permit.agent, outcome), leases=(outcome,)))


def _again(desk: Desk, agent: Principal, lease_id: str, transaction: Transaction) -> AfterCommit[Issued]:
    """Return the credential of a request that was there before anew, if its lease still lives."""
    return AfterCommit(partial(token.again, desk, guards.own_lease(transaction.leases.find(lease_id), lease_id, agent)))


def _record(desk: Desk, permit: _Permitted, transaction: Transaction) -> str | AfterCommit[Issued | str]:
    """Guard and record, at the head of the ledger. Returns the lease's id where the same request was there before."""
    agent, request_id = permit.agent, permit.intent.request_id
    earlier = idempotency.earlier_result(transaction, agent, request_id, permit.asked)
    if earlier is not None:
        return earlier
    task = guards.live_task(guards.unchanged(transaction, permit.task), transaction.at)
    guards.within_quotas(transaction, task, desk.limits)
    lease = _lease(desk, permit, transaction)
    guards.unlocked(transaction, lease)
    written = token.draft(desk, lease, transaction.at)
    told = _explanation(desk, permit.intent.explanation, transaction)
    transaction.record(
        Entry(
            kind=Kind.LEASE_ISSUED,
            at=transaction.at,
            tenant=task.tenant,
            task_id=task.id,
            observed=principal_facts(agent),
            asserted={} if told is None else {"explanation": canonical.commit(told.salt, told.text)},
            decided=decision_facts(permit.decision, permit.decision_id),
            effected=lease_facts(lease),
        ),
        largest="grants",
    )
    transaction.leases.add(lease)
    if told is not None:
        transaction.explanations.add(told)
    idempotency.remember(transaction, agent, request_id, permit.asked, lease.id)
    return AfterCommit(partial(token.release, desk, lease, written))


def _lease(desk: Desk, permit: _Permitted, transaction: Transaction) -> Lease:
    """Draw the lease up, with the least of every lifetime."""
    task, decision, confirmation, now = permit.task, permit.decision, permit.confirmation, transaction.at
    caps: dict[str, datetime | timedelta] = {
        "policy": decision.lifetime_cap,
        "limits.lifetime": desk.limits.lifetime,
        "the task's deadline": task.deadline,
        "the caller's proof of identity": permit.agent.not_after,
    }
    if confirmation.binding is Binding.BEARER:
        caps["limits.bearer_lifetime"] = desk.limits.bearer_lifetime
    return Lease(
        id=desk.ids(),
        tenant=task.tenant,
        task_id=task.id,
        holder=permit.agent.id,
        resource=permit.intent.resource,
        grants=permit.grants,
        binding=confirmation.binding,
        confirmation=confirmation.thumbprint,
        issued_at=now,
        expires_at=lifetime.granted(now, permit.intent.lifetime, caps),
        max_expires_at=min(now + desk.limits.total_lifetime, task.deadline),
        decision_id=permit.decision_id,
        policies=decision.policies,
        policy_revision=decision.revision,
        index=transaction.next_index(),
    )


def _explanation(desk: Desk, text: str, transaction: Transaction) -> Explanation | None:
    """Make what is kept of an explanation, beside the entry about to be recorded."""
    if not text:
        return None
    kept = desk.limits.retention + desk.limits.total_lifetime
    return Explanation(index=transaction.next_index(), salt=desk.salts(), text=text, expires_at=transaction.at + kept)
