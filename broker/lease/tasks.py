"""Begin, extend and end tasks. Ending one kills its leases in the same transaction, by one rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

from broker.audit.facts import declaration_facts, principal_facts, rule_facts, task_facts
from broker.lease import guards, idempotency
from broker.lease.desk import Desk
from broker.lease.revoke import next_rule
from broker.model.clock import to_micros
from broker.model.duration import format_duration
from broker.model.entry import Entry, Kind
from broker.model.errors import invalid
from broker.model.principal import Principal
from broker.model.selector import Cause, Selector, Target
from broker.model.task import Declaration, Task, TaskState
from broker.store import tasks
from broker.store.encoding import dump_names, dump_resources
from broker.store.transaction import Afterwards, Change, Transaction


async def begin(desk: Desk, orchestrator: Principal, declaration: Declaration, request_id: str) -> Task:
    """Declare a task in the orchestrator's tenant.

    Raises:
        Refusal: as in protos/broker/v1/orchestrator_service.proto.
    """
    request = identified(orchestrator, declaration, request_id)
    change: Change[Task] = Change(
        partial(_record_begin, desk, orchestrator, declaration, request), requests=idempotency.keys(request)
    )
    return await desk.ledger.write(change)


def identified(orchestrator: Principal, declared: Declaration, request_id: str) -> idempotency.Request | None:
    """Return what tells this declaration from another under the same id."""
    deadline = declared.deadline
    at, after = (to_micros(deadline), None) if isinstance(deadline, datetime) else (None, idempotency.micros(deadline))
    body = {**declaration_facts(declared), "deadline": at, "lifetime": after}
    return idempotency.identified(orchestrator, request_id, "task", body)


async def show(desk: Desk, principal: Principal, task_id: str) -> Task:
    """Return a task as it is now.

    Raises:
        Refusal: TASK_NOT_FOUND.
    """
    by_id = await desk.database.read(lambda connection: tasks.fetch(connection, [task_id]))
    return guards.known_task(by_id.get(task_id), task_id, principal)


async def extend(desk: Desk, orchestrator: Principal, task_id: str, deadline: datetime) -> Task:
    """Move the deadline of a task that has not ended to a later instant.

    Raises:
        Refusal: INVALID_ARGUMENT, TASK_NOT_FOUND, TASK_NOT_ACTIVE, LEDGER_UNAVAILABLE; QUOTA_EXCEEDED, if its deadline
            had passed, and there is no room for it any more.
    """
    return await desk.ledger.write(
        Change(partial(_record_extension, desk, orchestrator, task_id, deadline), tasks=(task_id,))
    )


async def end(desk: Desk, orchestrator: Principal, task_id: str, outcome: TaskState) -> tuple[Task, int]:
    """End a task. Return it, and the ledger index of the rule that killed its leases.

    Raises:
        Refusal: TASK_NOT_FOUND; TASK_NOT_ACTIVE, if it has ended otherwise; LEDGER_UNAVAILABLE.
    """
    change = Change(partial(_record_end, orchestrator, task_id, outcome), tasks=(task_id,), urgent=True)
    return await desk.ledger.write(change)


async def page(
    desk: Desk, principal: Principal, state: TaskState | None, before: int | None, limit: int
) -> Sequence[Task]:
    """List the tasks that a principal may see, newest first."""
    tenant = principal.confined_to
    return await desk.database.read(lambda connection: tasks.page(connection, tenant, state, before, limit))


def _record_begin(
    desk: Desk,
    orchestrator: Principal,
    declared: Declaration,
    request: idempotency.Request | None,
    transaction: Transaction,
) -> Task | Afterwards[Task]:
    earlier = idempotency.earlier_result(transaction, request)
    if earlier is not None:
        return transaction.tasks.find(earlier) or Afterwards(partial(show, desk, orchestrator, earlier))
    task = _task(desk, orchestrator, declared, transaction)
    guards.within_task_quota(transaction, orchestrator.tenant, desk.limits)
    transaction.record(
        Entry(
            kind=Kind.TASK_CREATED,
            at=transaction.at,
            tenant=task.tenant,
            task_id=task.id,
            observed=principal_facts(orchestrator),
            asserted=task_facts(task),
        ),
        largest="agents" if len(dump_names(task.agents)) > len(dump_resources(task.tools)) else "tools",
    )
    transaction.tasks.add(task)
    idempotency.remember(transaction, request, task.id)
    return task


def _task(desk: Desk, orchestrator: Principal, declared: Declaration, transaction: Transaction) -> Task:
    """Return the task that a declaration makes, if its deadline is within bounds."""
    deadline = declared.due(transaction.at)
    _check_deadline(desk, deadline, transaction.at)
    return Task(
        id=desk.ids(),
        tenant=orchestrator.tenant,
        owner=declared.owner,
        purpose=declared.purpose,
        environment=declared.environment,
        agents=tuple(declared.agents),
        tools=tuple(declared.tools),
        deadline=deadline,
        risk_threshold=declared.risk_threshold,
        state=TaskState.ACTIVE,
        created_at=transaction.at,
        created_by=orchestrator.id,
        index=transaction.next_index(),
    )


def _record_extension(
    desk: Desk, orchestrator: Principal, task_id: str, deadline: datetime, transaction: Transaction
) -> Task:
    task = guards.known_task(transaction.tasks.find(task_id), task_id, orchestrator)
    if task.state is not TaskState.ACTIVE or task.deadline <= transaction.in_force.horizon:
        # Of tasks whose deadline is so long past, nobody remembers any more whether they had been ended before it.
        guards.live_task(task, transaction.at)
    if deadline <= task.deadline:
        raise invalid("deadline", "must be later than the present deadline; to stop sooner, end the task")
    _check_deadline(desk, deadline, transaction.at)
    if not task.is_live(transaction.at):
        guards.within_task_quota(transaction, task.tenant, desk.limits)  # its deadline had passed, and it lives again
    extended = replace(task, deadline=deadline, revision=task.revision + 1, changed_index=transaction.next_index())
    transaction.record(
        Entry(
            kind=Kind.TASK_EXTENDED,
            at=transaction.at,
            tenant=task.tenant,
            task_id=task.id,
            observed=principal_facts(orchestrator),
            asserted={"deadline": to_micros(deadline)},
        )
    )
    transaction.tasks.change(extended)
    return extended


def _record_end(
    orchestrator: Principal, task_id: str, outcome: TaskState, transaction: Transaction
) -> tuple[Task, int]:
    task = guards.known_task(transaction.tasks.find(task_id), task_id, orchestrator)
    selector = Selector(task.tenant, Target.TASK, task.id)
    if task.state is outcome:
        ended_by = transaction.rules.newest(selector)
        return task, task.index if ended_by is None else ended_by
    if task.state is not TaskState.ACTIVE:
        guards.live_task(task, transaction.at)
    # No token outlives its task's deadline, however long ago it was issued and by which limits.
    rule = next_rule(
        transaction, selector, Cause.TASK_ENDED, min(transaction.leases.tokens_until, task.deadline), task.deadline
    )
    ended = replace(task, state=outcome, ended_at=transaction.at, revision=task.revision + 1, changed_index=rule.index)
    transaction.record(
        Entry(
            kind=Kind.TASK_ENDED,
            at=transaction.at,
            tenant=task.tenant,
            task_id=task.id,
            observed=principal_facts(orchestrator),
            asserted={"outcome": outcome.value},
            effected={"revoked": "every lease of the task", **rule_facts(rule)},
        )
    )
    transaction.tasks.change(ended)
    transaction.rules.add(rule)
    return ended, rule.index


def _check_deadline(desk: Desk, deadline: datetime, now: datetime) -> None:
    if deadline <= now:
        raise invalid("deadline", "must be in the future")
    longest = desk.limits.task_lifetime
    if deadline > now + longest:
        raise invalid("deadline", f"must be at most {format_duration(longest)} away (limits.task_lifetime)")
