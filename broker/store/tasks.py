"""SQL about tasks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from broker.model.clock import from_micros, to_micros
from broker.model.task import Environment, Task, TaskState
from broker.store.aggregate import Aggregate, AtHead, Named
from broker.store.encoding import dump_names, dump_resources, load_names, load_resources
from broker.store.provenance import refuse_altered
from broker.store.rows import Sql, delete_some
from broker.store.schema import task_agents, tasks

_MOST_KEPT = 1_000
_COUNT = Sql("UPDATE tasks SET leases_issued = :leases_issued WHERE id = :id")
_CHANGE = Sql(
    """
    UPDATE tasks
    SET deadline = :deadline, state = :state, ended_at = :ended_at, leases_issued = :leases_issued,
        revision = :revision, changed_index = :changed_index
    WHERE id = :id
    """
)


def fetch(connection: Connection, ids: Collection[str]) -> dict[str, Task]:
    """Find tasks by id."""
    rows = connection.execute(select(tasks).where(tasks.c.id.in_(ids)))
    return {row.id: _task(row) for row in rows}


def page(
    connection: Connection, tenant: str | None, state: TaskState | None, before: int | None, limit: int
) -> Sequence[Task]:
    """List tasks by descending ledger index, from below `before` on. Tenant None: of every tenant."""
    query = select(tasks).order_by(tasks.c.index.desc()).limit(limit)
    if tenant is not None:
        query = query.where(tasks.c.tenant == tenant)
    if state is not None:
        query = query.where(tasks.c.state == state.value)
    if before is not None:
        query = query.where(tasks.c.index < before)
    return [_task(row) for row in connection.execute(query)]


def count_live(connection: Connection, tenant: str, at: datetime) -> int:
    """Count a tenant's tasks for which credentials may be issued at an instant."""
    query = select(func.count()).where(
        tasks.c.tenant == tenant, tasks.c.state == TaskState.ACTIVE.value, tasks.c.deadline > to_micros(at)
    )
    return connection.execute(query).scalar_one()


def live_of(connection: Connection, tenant: str, agent: str, at: datetime, limit: int) -> Sequence[str]:
    """List the ids of a tenant's live tasks that name an agent, the soonest to end first."""
    agents = task_agents.c
    query = select(agents.task_id).where(
        agents.agent == agent, agents.tenant == tenant, agents.deadline > to_micros(at)
    )
    return list(connection.execute(query.order_by(agents.deadline).limit(limit)).scalars())


def add(connection: Connection, new: Collection[Task]) -> None:
    """Insert tasks."""
    connection.execute(insert(tasks), [_values(task) for task in new])
    _add_agents(connection, new)


def move_agents(connection: Connection, changed: Collection[Task]) -> None:
    """Follow the end or the new deadline of tasks, so that `live_of` finds them by it."""
    connection.execute(delete(task_agents).where(task_agents.c.task_id.in_([task.id for task in changed])))
    _add_agents(connection, [task for task in changed if task.state is TaskState.ACTIVE])


def forget_agents(connection: Connection, before: datetime, limit: int) -> int:
    """Delete agents of tasks whose deadline passed before an instant, at most so many; report how many."""
    return delete_some(connection, task_agents, task_agents.c.deadline < to_micros(before), limit)


def put_counts(connection: Connection, counts: Mapping[str, int]) -> None:
    """Write back how many leases tasks have had. It is in no index, unlike what else may change."""
    _COUNT.run(connection, *({"id": task_id, "leases_issued": count} for task_id, count in counts.items()))


def change(connection: Connection, changed: Collection[Task]) -> None:
    """Write back what may change of tasks: deadline, state, counters."""
    rows = [
        {
            "id": task.id,
            "deadline": to_micros(task.deadline),
            "state": task.state.value,
            "ended_at": None if task.ended_at is None else to_micros(task.ended_at),
            "leases_issued": task.leases_issued,
            "revision": task.revision,
            "changed_index": task.changed_index,
        }
        for task in changed
    ]
    _CHANGE.run(connection, *rows)


def cancel_all(connection: Connection, at: datetime, index: int) -> None:
    """End every active task, as the entry at an index says."""
    ended = {"state": TaskState.CANCELLED.value, "ended_at": to_micros(at), "changed_index": index}
    active = tasks.c.state == TaskState.ACTIVE.value
    connection.execute(update(tasks).where(active).values(**ended, revision=tasks.c.revision + 1))
    connection.execute(delete(task_agents))


def _add_agents(connection: Connection, named_by: Collection[Task]) -> None:
    rows = [
        {"task_id": task.id, "agent": agent, "tenant": task.tenant, "deadline": to_micros(task.deadline)}
        for task in named_by
        for agent in task.agents
    ]
    if rows:
        connection.execute(insert(task_agents), rows)


def _values(task: Task) -> dict[str, object]:
    return {
        "id": task.id,
        "tenant": task.tenant,
        "owner": task.owner,
        "purpose": task.purpose,
        "environment": task.environment.value,
        "agents": dump_names(task.agents),
        "tools": dump_resources(task.tools),
        "deadline": to_micros(task.deadline),
        "risk_threshold": task.risk_threshold,
        "state": task.state.value,
        "created_at": to_micros(task.created_at),
        "created_by": task.created_by,
        "ended_at": None if task.ended_at is None else to_micros(task.ended_at),
        "index": task.index,
        "leases_issued": task.leases_issued,
        "revision": task.revision,
        "changed_index": task.changed_index,
    }


def _task(row: Row) -> Task:  # type: ignore[type-arg]
    columns = row._mapping  # noqa: SLF001 (a public attribute, underscored against column names)
    return Task(
        id=row.id,
        tenant=row.tenant,
        owner=row.owner,
        purpose=row.purpose,
        environment=Environment(row.environment),
        agents=load_names(row.agents),
        tools=load_resources(row.tools),
        deadline=from_micros(row.deadline),
        risk_threshold=row.risk_threshold,
        state=TaskState(row.state),
        created_at=from_micros(row.created_at),
        created_by=row.created_by,
        ended_at=None if row.ended_at is None else from_micros(row.ended_at),
        index=columns["index"],
        leases_issued=row.leases_issued,
        revision=row.revision,
        changed_index=row.changed_index,
    )


class Tasks(Aggregate):
    """The tasks of a transaction. `changed` are those of which others may have a copy.

    Leases are counted beside the tasks: a count changes with each of them, and nothing else does.
    """

    def __init__(self, head: AtHead, kept: Mapping[str, Task], kept_counts: Mapping[str, int]) -> None:
        """Begin with the tasks, and the counts of their leases, that the transaction before has kept."""
        self.changed: dict[str, Task] = {}
        self._head = head
        self._tasks = dict(kept)
        self._altered: set[str] = set()
        self._new: list[Task] = []
        self._counts = dict(kept_counts)
        self._counted: set[str] = set()
        self._live: dict[str, int] = {}
        self._begun: dict[str, int] = {}

    def find(self, task_id: str) -> Task | None:
        """Find a task that the change has named.

        Raises:
            Refusal: RECORD_ALTERED.
        """
        task = self.but_for_count(task_id)
        return task if task is None else self._with_count(task)

    def but_for_count(self, task_id: str) -> Task | None:
        """Find a task as `find` does, but for the count of its leases, which may be an earlier one."""
        if task_id in self._altered:
            raise refuse_altered("task", task_id)
        return self._tasks.get(task_id)

    def tenants(self, named: Collection[Named]) -> set[str]:
        """List the tenants of the tasks that changes have named."""
        ids = {task_id for change in named for task_id in change.tasks}
        return {task.tenant for task_id in ids if (task := self._tasks.get(task_id)) is not None}

    def leases_issued(self, task: Task) -> int:
        """Report how many leases a task has ever had, whatever a copy of it says."""
        return self._counts.get(task.id, self._tasks[task.id].leases_issued)

    def live(self, tenant: str) -> int:
        """Report for how many of a tenant's tasks credentials may be issued."""
        if tenant not in self._live:
            self._live[tenant] = count_live(self._head.connection, tenant, self._head.at)
        return self._live[tenant] + self._begun.get(tenant, 0)

    def add(self, task: Task) -> None:
        """Add a new task."""
        self._count_begun(task.tenant, task.is_live(self._head.at))
        self._tasks[task.id] = task
        self._new.append(task)

    def change(self, task: Task) -> None:
        """Change a task's deadline, state or counters."""
        was_live = self._tasks[task.id].is_live(self._head.at)
        self._count_begun(task.tenant, task.is_live(self._head.at) - was_live)
        self._tasks[task.id] = self.changed[task.id] = task

    def count_lease(self, task_id: str) -> None:
        """Count a new lease. That is no change which copies of a task have to follow: its revision stays."""
        self._counts[task_id] = self.leases_issued(self._tasks[task_id]) + 1
        self._counted.add(task_id)

    def prefetch(self, named: Collection[Named]) -> None:
        """Read the tasks that are not known yet, and hold each against its entries."""
        wanted = {task for change in named for task in change.tasks} - self._tasks.keys()
        if wanted:
            rows = fetch(self._head.connection, wanted)
            self._altered = self._head.altered(rows.values())
            self._altered.update(task.id for task in rows.values() if self._has_ended(task))
            # What is here the next transaction takes for true: it is to read an altered one again, and refuse it.
            self._tasks.update((task_id, task) for task_id, task in rows.items() if task_id not in self._altered)

    def write(self) -> None:
        """Insert what is new, then write what has changed, of new tasks as well."""
        if self._new:
            add(self._head.connection, self._new)
        if self._counted:
            put_counts(self._head.connection, {task_id: self._counts[task_id] for task_id in self._counted})
        if self.changed:
            change(self._head.connection, [self._with_count(task) for task in self.changed.values()])
            move_agents(self._head.connection, self.changed.values())

    def kept(self) -> tuple[Mapping[str, Task], Mapping[str, int]]:
        """Return what the next transaction need not read, once this one is written: tasks, and counts of leases."""
        return (self._tasks, self._counts) if len(self._tasks) <= _MOST_KEPT else ({}, {})

    def _with_count(self, task: Task) -> Task:
        count = self._counts.get(task.id, task.leases_issued)
        return task if count == task.leases_issued else replace(task, leases_issued=count)

    def _count_begun(self, tenant: str, more: int) -> None:
        self._begun[tenant] = self._begun.get(tenant, 0) + more

    def _has_ended(self, task: Task) -> bool:
        """Report whether the ledger has ended a task that its row calls active."""
        if task.state is not TaskState.ACTIVE:
            return False
        in_force = self._head.in_force
        return in_force.has_ended(task.tenant, task.id) or task.index < in_force.adopted_index
