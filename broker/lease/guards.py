"""The guards: what must hold at the head of the ledger at the instant a change is recorded."""

from __future__ import annotations

from datetime import datetime

from broker.lease.desk import Limits
from broker.model.errors import Hints, Reason, Refusal
from broker.model.lease import Lease, LeaseState
from broker.model.principal import Principal
from broker.model.selector import Selector
from broker.model.task import Task, TaskState
from broker.store.transaction import Stale, Transaction


def known_task(task: Task | None, task_id: str, principal: Principal) -> Task:
    """Refuse a task that is not there, or that this principal may not see; the two look the same."""
    if task is None or not principal.may_see(task.tenant):
        raise Refusal(
            Reason.TASK_NOT_FOUND,
            f"there is no task `{task_id}`",
            Hints(next="check the id; a task is visible to its own tenant only"),
        )
    return task


def within_tenant(operator: Principal, selector: Selector) -> None:
    """Refuse a selector that reaches beyond the tenant to which an operator is confined."""
    if not operator.may_see(selector.tenant):
        raise Refusal(
            Reason.TENANT_FORBIDDEN,
            f"`{operator.id}` is confined to the tenant `{operator.tenant}`",
            Hints(next=f"set selector.tenant to `{operator.tenant}`"),
        )


def live_task(task: Task, at: datetime) -> Task:
    """Refuse a task that has ended or whose deadline has passed."""
    if task.is_live(at):
        return task
    ended = task.state is not TaskState.ACTIVE
    raise Refusal(
        Reason.TASK_NOT_ACTIVE,
        f"task `{task.id}` is {task.state.value}" if ended else f"the deadline of task `{task.id}` has passed",
        Hints(missing="an active task", next="ask the orchestrator for a new task, or to extend this one"),
    )


def task_of_agent(task: Task | None, task_id: str, agent: Principal) -> Task:
    """Refuse a task that does not name this agent, as if it were not there, and any but the one its proof is for."""
    if agent.task_id not in ("", task_id):
        raise Refusal(
            Reason.TASK_NOT_FOUND,
            f"the token that proves the caller's identity is good for task `{agent.task_id}` alone",
            Hints(next="name that task, or none"),
        )
    task = known_task(task, task_id, agent)
    return known_task(task if agent.id in task.agents else None, task_id, agent)


def unchanged(transaction: Transaction, decided_on: Task) -> Task:
    """Return the task as it is now, if it is what policy decided on.

    Raises:
        Stale: it is not.
    """
    task = transaction.tasks.but_for_count(decided_on.id)
    if task is None or not task.same_as(decided_on):
        raise Stale
    return task


def unchanged_lease(transaction: Transaction, decided_on: Lease, holder: Principal) -> None:
    """Refuse to go on from a lease that is not its holder's, not live, or locked.

    Raises:
        Stale: it is not what policy decided on.
    """
    lease = live_lease(own_lease(transaction.leases.find(decided_on.id), decided_on.id, holder), transaction.at)
    if lease != decided_on:
        raise Stale
    unlocked(transaction, lease)


def unlocked(transaction: Transaction, lease: Lease) -> None:
    """Refuse a credential that an operator's lock covers."""
    lock = transaction.locks.on(lease)
    if lock is not None:
        named = f"{lock.selector.target.value} `{lock.selector.value}`" if lock.selector.value else "everything"
        raise Refusal(
            Reason.LOCKED,
            f"an operator has locked {named} (lock `{lock.id}`)",
            Hints(next="wait until the lock is lifted, or ask an operator"),
        )


def within_quotas(transaction: Transaction, task: Task, limits: Limits) -> None:
    """Refuse a lease over the quota of its task or tenant."""
    if transaction.tasks.leases_issued(task) >= limits.leases_per_task:
        raise _over("leases_per_task", limits.leases_per_task, f"task `{task.id}`", "begin a new task")
    if transaction.quotas.issued(task.tenant) >= limits.leases_per_minute:
        raise _over("leases_per_minute", limits.leases_per_minute, "the tenant", "try again in the next minute")


def within_task_quota(transaction: Transaction, tenant: str, limits: Limits) -> None:
    """Refuse a task over the quota of its tenant: what counts is what lives, not what nobody ended."""
    if transaction.tasks.live(tenant) >= limits.active_tasks:
        raise _over("active_tasks", limits.active_tasks, "the tenant", "end tasks that are done")


def own_lease(lease: Lease | None, lease_id: str, holder: Principal) -> Lease:
    """Refuse a lease that is not there, or that somebody else holds; the two look the same."""
    theirs = lease is not None and (lease.holder, lease.tenant) == (holder.id, holder.tenant)
    if lease is None or not theirs or holder.task_id not in ("", lease.task_id):
        raise Refusal(
            Reason.LEASE_NOT_FOUND,
            f"there is no lease `{lease_id}`",
            Hints(next="check the id; only its holder may use a lease"),
        )
    return lease


def live_lease(lease: Lease, at: datetime) -> Lease:
    """Refuse a lease that has expired or was revoked."""
    state = lease.state(at)
    if state is not LeaseState.LIVE:
        raise Refusal(
            Reason.LEASE_NOT_LIVE,
            f"lease `{lease.id}` is {state.value}",
            Hints(lease_state=state.value, next="ask for a new credential, if the task still runs"),
        )
    return lease


def _over(name: str, limit: int, whose: str, remedy: str) -> Refusal:
    return Refusal(
        Reason.QUOTA_EXCEEDED,
        f"{whose} has used its quota `{name}` of {limit}",
        Hints(missing=name, next=f"{remedy}, or ask an operator to raise limits.{name}"),
    )
