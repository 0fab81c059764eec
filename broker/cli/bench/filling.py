"""Fills a broker's database with live leases, through the ledger's own writer, while no daemon runs on it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial

from broker.audit.facts import lease_facts, rule_facts, selector_facts, task_facts
from broker.audit.note import NoteSigner
from broker.config.settings import Settings
from broker.keystore.folder import open_keys
from broker.model.entry import Entry, Kind
from broker.model.grant import Grant, ResourceGrants
from broker.model.lease import Binding, Lease
from broker.model.selector import Cause, RevocationRule, Selector, Target
from broker.model.task import Environment, Task, TaskState
from broker.sandbox.broker import AGENT, RESOURCE, TOOL
from broker.store import migrate
from broker.store.database import open_database
from broker.store.marks import Marks
from broker.store.sole import sole_writer
from broker.store.transaction import Change, Transaction
from broker.store.writer import Writer
from broker.system import system_clock, uuid7

_BATCH = 5_000
_LIFETIME = timedelta(hours=1)
_GRANTS = (Grant(TOOL),)


async def fill(settings: Settings, counts: dict[str, int], rules: int = 0) -> None:
    """Record so many live leases, and revocations of single leases, in each tenant, with all that belongs to them.

    Raises:
        Refusal, LedgerMismatch, DatabaseProblem: the database cannot be written.
    """
    with sole_writer(settings.database_url):
        migrate.upgrade(settings.database_url)
        await _write(settings, counts, rules)


async def _write(settings: Settings, counts: dict[str, int], rules: int) -> None:
    database = open_database(settings.database_url, at_leisure=True)
    signer = NoteSigner(settings.origin, open_keys(settings.keys.directory).checkpoint)
    writer = Writer(
        database,
        settings.origin,
        signer,
        system_clock,
        lambda _change: None,
        marks=Marks(settings.mark_dirs, signer.vkey),
    )
    writer.start()
    try:
        for tenant, count in counts.items():
            task = await writer.write(Change(partial(_begin, tenant)))
            for size in _sizes(count):
                await writer.write(Change(partial(_issue, task, size), tasks=(task.id,)))
            for size in _sizes(rules):
                await writer.write(Change(partial(_revoke, tenant, size)))
    finally:
        await writer.stop()
        database.close()


def _sizes(count: int) -> Iterator[int]:
    yield from [_BATCH] * (count // _BATCH)
    if count % _BATCH:
        yield count % _BATCH


def _begin(tenant: str, transaction: Transaction) -> Task:
    task = Task(
        id=uuid7(),
        tenant=tenant,
        owner="bench",
        purpose="measure",
        environment=Environment.DEV,
        agents=(AGENT,),
        tools=(ResourceGrants(RESOURCE, _GRANTS),),
        deadline=transaction.at + _LIFETIME,
        risk_threshold=60,
        state=TaskState.ACTIVE,
        created_at=transaction.at,
        created_by="bench",
        index=transaction.next_index(),
    )
    transaction.record(
        Entry(kind=Kind.TASK_CREATED, at=transaction.at, tenant=tenant, task_id=task.id, asserted=task_facts(task))
    )
    transaction.tasks.add(task)
    return task


def _issue(task: Task, count: int, transaction: Transaction) -> None:
    for _ in range(count):
        lease = _lease(task, transaction.at, transaction.next_index())
        transaction.record(
            Entry(
                kind=Kind.LEASE_ISSUED,
                at=transaction.at,
                tenant=task.tenant,
                task_id=task.id,
                effected=lease_facts(lease),
            )
        )
        transaction.leases.add(lease)


def _lease(task: Task, at: datetime, index: int) -> Lease:
    return Lease(
        id=uuid7(),
        tenant=task.tenant,
        task_id=task.id,
        holder=AGENT,
        resource=RESOURCE,
        grants=_GRANTS,
        binding=Binding.IDENTITY,
        issued_at=at,
        expires_at=at + _LIFETIME,
        max_expires_at=at + _LIFETIME,
        decision_id="",
        policies=(),
        policy_revision="",
        index=index,
    )


def _revoke(tenant: str, count: int, transaction: Transaction) -> None:
    for _ in range(count):
        rule = RevocationRule(
            index=transaction.next_index(),
            selector=Selector(tenant, Target.LEASE, uuid7()),
            cause=Cause.OPERATOR,
            recorded_at=transaction.at,
            relevant_until=transaction.at + _LIFETIME,
        )
        effected = selector_facts(rule.selector) | rule_facts(rule)
        transaction.record(Entry(kind=Kind.LEASES_REVOKED, at=transaction.at, tenant=tenant, effected=effected))
        transaction.rules.add(rule)
