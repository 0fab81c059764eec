"""A whole broker in one process, in the words of the domain, with a clock that stands until it is moved."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from broker.audit.note import NoteSigner
from broker.config import policy_bundle
from broker.credential.keys import EcSigner, KeySet
from broker.lease import issue, lock, release, renew, revoke, tasks
from broker.lease.desk import Desk, Limits, TaskCache
from broker.lease.lookup import LeaseLookup
from broker.lease.token import Issued
from broker.model.grant import Grant, ResourceGrants
from broker.model.intent import Intent
from broker.model.principal import Principal, Role
from broker.model.selector import RevocationRule, Selector
from broker.model.task import Declaration, Environment, Task, TaskState
from broker.policy.engine import Policy
from broker.store.committer import Ask, Committed
from broker.store.database import Database, open_database
from broker.store.follower import Follower
from broker.store.marks import Marks
from broker.store.reserve import Reserve
from broker.store.writer import Writer
from broker.system import uuid7
from tests.support.sample_policy import SAMPLE

ISSUER = "https://broker.example"
ORIGIN = "broker.example/ledger"
REPO = "https://repo.tools.example"
NOTES = "https://notes.tools.example"
START = datetime(2030, 1, 1, 12, tzinfo=UTC)


@dataclass
class ManualClock:
    """Time that moves only when told."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def move(self, by: timedelta) -> None:
        self.now += by


def principal(spiffe_id: str, role: Role, tenant: str = "acme") -> Principal:
    return Principal(
        id=spiffe_id,
        tenant=tenant,
        roles=frozenset({role}),
        method="x509_svid",
        proof="00" * 32,
        not_after=START + timedelta(days=365),
    )


RESEARCHER = principal("spiffe://example.org/agent/researcher", Role.AGENTS)
WRITER = principal("spiffe://example.org/agent/writer", Role.AGENTS)
ORCHESTRATOR = principal("spiffe://example.org/orchestrator", Role.ORCHESTRATORS)
OPERATOR = principal("spiffe://example.org/operator", Role.OPERATORS, tenant="*")
STRANGER = principal("spiffe://example.org/agent/researcher", Role.AGENTS, tenant="globex")


@dataclass
class World:
    """A broker without doors."""

    desk: Desk
    clock: ManualClock
    keys: KeySet
    follower: Follower
    rules: list[RevocationRule] = field(default_factory=list)

    async def task(self, **changes: object) -> Task:
        declaration = Declaration(
            owner="alice",
            purpose="triage",
            environment=Environment.DEV,
            agents=(RESEARCHER.id, WRITER.id),
            tools=(
                ResourceGrants(REPO, (Grant("read_file"), Grant("list_files"), Grant("create_issue"))),
                ResourceGrants(NOTES, (Grant("search_notes"),)),
            ),
            deadline=self.clock() + timedelta(hours=4),
            risk_threshold=60,
        )
        orchestrator = changes.pop("orchestrator", ORCHESTRATOR)
        request_id = changes.pop("request_id", "")
        assert isinstance(orchestrator, Principal)
        assert isinstance(request_id, str)
        return await tasks.begin(self.desk, orchestrator, replace(declaration, **changes), request_id)  # type: ignore[arg-type]

    async def issue(
        self, task: Task, *tools: str, agent: Principal = RESEARCHER, resource: str = REPO, **bounds: object
    ) -> Issued:
        grants = tuple(Grant(tool) for tool in tools or ("read_file",))
        intent = Intent(task_id=task.id, resource=resource, grants=grants)
        return await issue.issue(self.desk, agent, replace(intent, **bounds))  # type: ignore[arg-type]

    async def renew(self, issued: Issued, agent: Principal = RESEARCHER, request_id: str = "") -> Issued:
        return await renew.renew(self.desk, agent, issued.lease.id, None, request_id)

    async def release(self, issued: Issued, agent: Principal = RESEARCHER) -> int:
        return await release.release(self.desk, agent, issued.lease.id)

    async def end(self, task: Task, outcome: TaskState = TaskState.COMPLETED) -> int:
        return (await tasks.end(self.desk, ORCHESTRATOR, task.id, outcome))[1]

    async def revoke(self, selector: Selector) -> RevocationRule:
        return (await revoke.revoke(self.desk, OPERATOR, selector, "a drill", None))[0]

    async def lock(self, selector: Selector) -> str:
        return (await lock.lock(self.desk, OPERATOR, selector, "a drill", None)).id

    async def unlock(self, lock_id: str) -> None:
        await lock.unlock(self.desk, OPERATOR, lock_id)


@asynccontextmanager
async def opened(
    url: str,
    *,
    clock: ManualClock | None = None,
    limits: Limits | None = None,
    note_key: NoteSigner | None = None,
    reserve: Reserve | None = None,
    mark_dirs: Sequence[Path] = (),
    asks: Sequence[Ask] = (),
) -> AsyncIterator[World]:
    """Open a broker on a database that has the schema."""
    database: Database = open_database(url)
    cache = TaskCache(database)
    clock = clock or ManualClock()
    rules: list[RevocationRule] = []

    def committed(change: Committed) -> None:
        cache.update(change.tasks)
        rules.extend(change.rules)

    note_key = note_key or note_signer()
    marks, follower = Marks(mark_dirs, note_key.vkey), Follower(note_key.vkey)
    writer = Writer(database, ORIGIN, note_key, clock, committed, reserve, follower, marks, asks)
    signer = EcSigner.generate()
    desk = _desk(database, writer, cache, clock, signer, limits or Limits())
    try:
        writer.start()
        yield World(desk, clock, KeySet.of([signer]), follower, rules)
    finally:
        await writer.stop()
        database.close()


def _desk(
    database: Database, writer: Writer, cache: TaskCache, clock: ManualClock, signer: EcSigner, limits: Limits
) -> Desk:
    policy = Policy(policy_bundle.load(SAMPLE))
    return Desk(
        clock=clock,
        ids=uuid7,
        salts=lambda: os.urandom(32),
        database=database,
        ledger=writer,
        tasks=cache,
        leases=LeaseLookup(database),
        policy=lambda: policy,
        signer=lambda: signer,
        issuer=ISSUER,
        limits=limits,
    )


def note_signer() -> NoteSigner:
    """Make a key for checkpoints."""
    return NoteSigner.generate(ORIGIN)
