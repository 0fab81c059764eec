"""A broker that is stopped and started again on one database."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from sqlalchemy import select

from broker.audit.note import NoteSigner
from broker.lease.desk import Limits
from broker.lease.token import Issued
from broker.model.grant import Grant, ResourceGrants
from broker.model.selector import Selector, Target
from broker.model.task import Task
from broker.store import verification
from broker.store.database import open_database
from broker.store.schema import ledger_head
from tests.support.world import (
    NOTES,
    REPO,
    RESEARCHER,
    ManualClock,
    World,
    note_signer,
    opened,
)

DECLARED = (
    ResourceGrants(REPO, (Grant("read_file"), Grant("create_issue"))),
    ResourceGrants(NOTES, (Grant("search_notes"),)),
)


@dataclass
class Deployment:
    """A broker that is stopped and started again on one database."""

    url: str
    clock: ManualClock = field(default_factory=ManualClock)
    note_key: NoteSigner = field(default_factory=note_signer)

    def opened(self, limits: Limits | None = None) -> AbstractAsyncContextManager[World]:
        return opened(self.url, clock=self.clock, note_key=self.note_key, limits=limits)

    def sql(self, *statements: str) -> None:
        database = open_database(self.url)
        with database.transaction() as connection:
            for statement in statements:
                assert connection.exec_driver_sql(statement).rowcount >= 1, statement
        database.close()

    def note(self) -> str:
        database = open_database(self.url)
        with database.transaction() as connection:
            note: str = connection.execute(select(ledger_head.c.note)).scalar_one()
        database.close()
        return note

    def problems(self) -> list[str]:
        return [finding.problem for finding in verification.verify(self.url, str(self.note_key.vkey)).findings]


@dataclass(frozen=True)
class Scene:
    """What there is before somebody works on the database."""

    task: Task
    ended: Task
    live: Issued
    revoked: Issued
    lock_id: str

    @classmethod
    async def of(cls, world: World) -> Scene:
        task, ended = await world.task(agents=(RESEARCHER.id,), tools=DECLARED), await world.task()
        live = await world.issue(task, request_id=task.id)
        revoked = await world.issue(task, request_id=ended.id)
        await world.issue(ended)
        await world.revoke(Selector("acme", Target.LEASE, revoked.lease.id))
        await world.end(ended)
        lock_id = await world.lock(Selector("acme", Target.TOOL, f"{NOTES}#search_notes"))
        return cls(task, ended, live, revoked, lock_id)
