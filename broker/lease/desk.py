"""What the use cases work with. `daemon.py` lays it out once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from broker.credential.keys import Signer
from broker.identity.directory import IdentityRule
from broker.lease.lookup import LeaseLookup
from broker.lease.withheld import Withheld
from broker.model.bounded_cache import BoundedCache
from broker.model.clock import Clock, Ids
from broker.model.task import Task
from broker.policy.engine import Policy
from broker.store import tasks
from broker.store.database import Database
from broker.store.writer import Writer

_MOST_CACHED_TASKS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What no request and no policy can exceed.

    `lifetime` bounds one token, `bearer_lifetime` one that anybody may bear, `total_lifetime` a lease with all its
    renewals, `task_lifetime` a task. Quotas: `leases_per_task` counts all leases a task ever has, `leases_per_minute`
    those of a tenant in a calendar minute, `active_tasks` those of a tenant at one time. `retention` is how long ended
    leases, and what belongs to them, stay.
    """

    lifetime: timedelta = timedelta(hours=1)
    bearer_lifetime: timedelta = timedelta(minutes=2)
    total_lifetime: timedelta = timedelta(hours=8)
    task_lifetime: timedelta = timedelta(days=7)
    leases_per_task: int = 10_000
    leases_per_minute: int = 60_000
    active_tasks: int = 10_000
    retention: timedelta = timedelta(days=30)


class TaskCache:
    """Copies of tasks, to decide upon. The writer's guards hold each against the truth, so a stale one is harmless."""

    def __init__(self, database: Database) -> None:
        """Make an empty cache over a database."""
        self._database = database
        self._tasks: BoundedCache[str, Task] = BoundedCache(_MOST_CACHED_TASKS)

    async def find(self, task_id: str) -> Task | None:
        """Find a task, in the cache or the database."""
        task = self._tasks.get(task_id)
        if task is None:
            task = (await self._database.read(lambda connection: tasks.fetch(connection, [task_id]))).get(task_id)
            if task is not None:
                self._tasks.keep(task_id, task)
        return task

    def forget(self, task_id: str) -> None:
        """Drop a copy that has proved stale."""
        self._tasks.forget(task_id)

    def update(self, changed: Mapping[str, Task]) -> None:
        """Renew the copies of tasks that have changed."""
        for task in changed.values():
            if task.id in self._tasks:
                self._tasks.keep(task.id, task)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """The collaborators of every use case.

    `policy` and `signer` are asked each time, since bundles and keys change while the broker runs; `salts` makes 32
    random bytes. `rules` say which workload is what, as far as that is known here.
    """

    clock: Clock
    ids: Ids
    salts: Callable[[], bytes]
    database: Database
    ledger: Writer
    tasks: TaskCache
    leases: LeaseLookup
    policy: Callable[[], Policy]
    signer: Callable[[], Signer]
    issuer: str
    limits: Limits
    rules: tuple[IdentityRule, ...] = ()
    withheld: Withheld = field(default_factory=Withheld)
