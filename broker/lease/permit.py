"""One road for every credential: find, guard, decide, commit, sign, release. In this order, always.

1. Find the task, on a copy, and refuse one that is not the agent's or not live.
2. Let policy decide on the situation. Nothing is recorded yet.
3. At the head of the ledger, give a request that was there before its earlier result; decide again, if what was
   decided on has changed; draw the lease up, refuse what is locked, write the token, and record.
4. Once that is durable, sign the token and release it.

A use case gives the steps in which it differs: what it asks policy for, what else it was decided on, the lease that it
draws up, and how it is recorded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import ClassVar, Protocol

from broker.audit.facts import decision_facts, lease_facts, principal_facts
from broker.intent import lifetime
from broker.lease import guards, idempotency, single_use, token
from broker.lease.bind import Confirmation, bind
from broker.lease.decide import permitted, permitted_tools
from broker.lease.desk import Desk, Limits
from broker.lease.token import Issued
from broker.model.decision import Action, Decision, Situation
from broker.model.entry import Entry, Json, Kind
from broker.model.errors import Reason, Refusal
from broker.model.grant import Grant
from broker.model.lease import Binding, Lease
from broker.model.principal import Principal
from broker.model.task import Task
from broker.store.transaction import AfterCommit, Afterwards, Change, Stale, Transaction

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What policy is asked for: tools at a resource, for a time; for a lease that is there, how old it is.

    `as_permitted`: as many of the tools as policy permits, not all or none. `confirmation` is that of a lease which is
    bound already; None: it is bound as policy asks.
    """

    resource: str
    grants: tuple[Grant, ...]
    lifetime: timedelta | None
    as_permitted: bool = False
    renewals: int = 0
    age: timedelta = timedelta()
    confirmation: Confirmation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """What policy permits an agent, on a copy of its task: on its way to the head of the ledger."""

    agent: Principal
    task: Task
    access: Access
    decision: Decision
    decision_id: str
    confirmation: Confirmation

    def expiry(self, limits: Limits, at: datetime, further: Mapping[str, datetime] | None = None) -> datetime:
        """Return when a token of it expires: the least of every lifetime, and of the `further` ends that have a say.

        Raises:
            Refusal: LIFETIME_EXHAUSTED.
        """
        caps: dict[str, datetime | timedelta] = {
            "policy": self.decision.lifetime_cap,
            "limits.lifetime": limits.lifetime,
            "the task's deadline": self.task.deadline,
            "the caller's proof of identity": self.agent.not_after,
            **(further or {}),
        }
        if self.confirmation.binding is Binding.BEARER:
            caps["limits.bearer_lifetime"] = limits.bearer_lifetime
        return lifetime.granted(at, self.access.lifetime, caps)

    def new_lease(self, desk: Desk, transaction: Transaction) -> Lease:
        """Return a lease of the agent's, to be recorded by the next entry.

        Raises:
            Refusal: LIFETIME_EXHAUSTED.
        """
        now, limits = transaction.at, desk.limits
        return Lease(
            id=desk.ids(),
            tenant=self.task.tenant,
            task_id=self.task.id,
            holder=self.agent.id,
            resource=self.access.resource,
            grants=self.access.grants,
            binding=self.confirmation.binding,
            confirmation=self.confirmation.thumbprint,
            issued_at=now,
            expires_at=self.expiry(limits, now),
            max_expires_at=min(now + limits.total_lifetime, self.task.deadline),
            decision_id=self.decision_id,
            policies=self.decision.policies,
            policy_revision=self.decision.revision,
            index=transaction.next_index(),
        )

    def entry(self, kind: Kind, lease: Lease, at: datetime, asserted: Mapping[str, Json]) -> Entry:
        """Return the entry that records what came of it."""
        return Entry(
            kind=kind,
            at=at,
            tenant=lease.tenant,
            task_id=lease.task_id,
            observed=principal_facts(self.agent),
            asserted=asserted,
            decided=decision_facts(self.decision, self.decision_id),
            effected=lease_facts(lease),
        )


class UseCase(Protocol):
    """The steps in which a use case differs, in the order in which they are taken; each may refuse."""

    action: ClassVar[Action]

    @property
    def agent(self) -> Principal:
        """The proven caller."""

    @property
    def task_id(self) -> str:
        """The task that it is for."""

    @property
    def lease_ids(self) -> tuple[str, ...]:
        """The leases that it looks at, at the head of the ledger."""

    @property
    def request(self) -> idempotency.Request | None:
        """The request, if it may come again."""

    def access(self, task: Task, at: datetime) -> Access:
        """Return what policy is asked for, on a copy of the task that is live."""

    def hold(self, transaction: Transaction) -> None:
        """Hold what was decided on, but for the task, against the truth.

        Raises:
            Stale: it has changed.
        """

    def draw_up(self, desk: Desk, permit: Permit, transaction: Transaction) -> Lease:
        """Check quotas, and draw up the lease as it is to be."""

    def record(self, desk: Desk, permit: Permit, lease: Lease, transaction: Transaction) -> None:
        """Record it."""


async def obtain(desk: Desk, prepare: Callable[[int], Awaitable[UseCase]]) -> Issued:
    """Take a use case down the road. It is prepared for each attempt, the first of which is 0.

    Raises:
        Refusal: as in protos/broker/v1/agent_service.proto.
    """
    for attempt in range(_ATTEMPTS):
        case = await prepare(attempt)
        task_id = case.task_id
        task = guards.task_of_agent(await desk.tasks.find(task_id), task_id, case.agent)
        try:
            return await desk.ledger.write(_change(desk, case, _decide(desk, case, task)))
        except Stale:
            desk.tasks.forget(task_id)
    raise Refusal(Reason.UNAVAILABLE, "what it is decided on keeps changing; try again")


def _decide(desk: Desk, case: UseCase, task: Task) -> Permit:
    """Let policy decide on this copy of the task. Nothing is recorded yet."""
    now = desk.clock()
    access = case.access(guards.live_task(task, now), now)
    decision_id = desk.ids()
    situation = _situation(case, task, access, now)
    if access.as_permitted and (tools := permitted_tools(desk.policy(), situation)):
        situation = replace(situation, tools=tools)
        access = replace(access, grants=tuple(grant for grant in access.grants if grant.tool in tools))
    decision = permitted(desk.policy(), situation, decision_id)
    return Permit(
        agent=case.agent,
        task=task,
        access=access,
        decision=decision,
        decision_id=decision_id,
        confirmation=access.confirmation or bind(decision.binding, case.agent),
    )


def _situation(case: UseCase, task: Task, access: Access, now: datetime) -> Situation:
    return Situation(
        action=case.action,
        principal=case.agent.id,
        tenant=task.tenant,
        resource=access.resource,
        tools=tuple(grant.tool for grant in access.grants),
        environment=task.environment,
        purpose=task.purpose,
        owner=task.owner,
        risk_threshold=task.risk_threshold,
        lifetime_seconds=0 if access.lifetime is None else int(access.lifetime.total_seconds()),
        renewals=access.renewals,
        age_seconds=int(access.age.total_seconds()),
        at=now,
    )


def _change(desk: Desk, case: UseCase, permit: Permit) -> Change[Issued]:
    """Return what is to be done at the head of the ledger, if what was decided on is still the truth."""
    return Change(
        partial(_record, desk, case, permit),
        tasks=(permit.task.id,),
        leases=case.lease_ids,
        requests=idempotency.keys(case.request) + single_use.keys(case.agent),
    )


def _record(
    desk: Desk, case: UseCase, permit: Permit, transaction: Transaction
) -> AfterCommit[Issued] | Afterwards[Issued]:
    """Guard and record, at the head of the ledger."""
    single_use.refuse_spent(transaction, case.agent)
    earlier = idempotency.earlier_result(transaction, case.request)
    if earlier is not None:
        single_use.spend(transaction, case.agent)
        return Afterwards(partial(_again, desk, case.agent, earlier))
    case.hold(transaction)
    guards.live_task(guards.unchanged(transaction, permit.task), transaction.at)
    lease = case.draw_up(desk, permit, transaction)
    guards.unlocked(transaction, lease)
    written = token.draft(desk, lease, transaction.at)
    case.record(desk, permit, lease, transaction)
    idempotency.remember(transaction, case.request, lease.id)
    single_use.spend(transaction, case.agent)
    return AfterCommit(partial(token.release, desk, lease, written))


async def _again(desk: Desk, agent: Principal, lease_id: str) -> Issued:
    """Return the credential of a request that was there before anew, if its lease still lives."""

    def find(transaction: Transaction) -> AfterCommit[Issued]:
        lease = guards.own_lease(transaction.leases.find(lease_id), lease_id, agent)
        return AfterCommit(partial(token.again, desk, lease))

    return await desk.ledger.write(Change(find, leases=(lease_id,)))
