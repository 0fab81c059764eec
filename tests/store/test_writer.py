"""The ledger's writer, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest
from sqlalchemy import select, text

from broker.access.entrances import entrance_of
from broker.access.refusals import Refusals
from broker.access.summary import RequestSummary
from broker.audit.note import verify_note
from broker.lease import tasks
from broker.lease.desk import Limits
from broker.lease.token import Issued
from broker.model.entry import Entry, Kind
from broker.model.errors import Reason, Refusal
from broker.model.lease import LeaseState
from broker.model.selector import Selector, Target
from broker.store import leases, ledger, verification
from broker.store.database import open_database
from broker.store.ledger import LedgerMismatch
from broker.store.schema import ledger_entries, ledger_head, requests
from broker.store.transaction import Change, Transaction
from tests.support.world import ORCHESTRATOR, RESEARCHER, STRANGER, ManualClock, note_signer, opened

ISSUE = entrance_of("/broker.v1.AgentService/IssueCredential")


async def test_concurrent_requests_share_transactions_and_get_consecutive_indexes(database_url: str) -> None:
    async with opened(database_url) as world:
        task = await world.task()
        issued = await asyncio.gather(*(world.issue(task) for _ in range(100)))
    indexes = sorted(item.lease.index for item in issued)
    assert indexes == list(range(indexes[0], indexes[0] + 100))
    report = verification.verify(database_url)
    assert report.ok, report.findings
    assert report.size == 102


async def test_issue_and_end_of_task_cannot_pass_each_other(database_url: str) -> None:
    async with opened(database_url) as world:
        task = await world.task()
        issuing = [world.issue(task) for _ in range(40)]
        *outcomes, end_index = await asyncio.gather(*issuing, world.end(task), return_exceptions=True)
        assert isinstance(end_index, int)
        for outcome in outcomes:
            if isinstance(outcome, Refusal):
                assert outcome.reason in (Reason.TASK_NOT_ACTIVE, Reason.LEASE_NOT_LIVE)
            else:
                assert isinstance(outcome, Issued)
                assert outcome.lease.index < end_index
        with pytest.raises(Refusal) as refused:
            await world.issue(task)
        assert refused.value.reason is Reason.TASK_NOT_ACTIVE
        found = await world.desk.database.read(
            lambda connection: leases.count_live(connection, Selector("acme", Target.TASK, task.id), world.clock(), 99)
        )
        assert found == 0


async def test_a_work_that_fails_fails_alone(database_url: str) -> None:
    def broken(transaction: Transaction) -> None:
        transaction.record(Entry(kind=Kind.LEASE_ISSUED, at=transaction.at, tenant="acme"))
        raise ZeroDivisionError

    async with opened(database_url) as world:
        task = await world.task()
        good = [world.issue(task) for _ in range(5)]
        outcomes = await asyncio.gather(*good, world.desk.ledger.write(Change(broken)), return_exceptions=True)
        assert isinstance(outcomes[-1], ZeroDivisionError)
        assert not any(isinstance(outcome, BaseException) for outcome in outcomes[:-1])
    report = verification.verify(database_url)
    assert report.ok, report.findings
    assert report.size == 2 + 5


async def test_a_refused_request_leaves_nothing_but_its_refusal(database_url: str) -> None:
    async with opened(database_url) as world:
        refusal = Refusal(Reason.POLICY_DENIED, "no")
        summary = RequestSummary(task_id="t")
        assert await Refusals(world.desk).settle(ISSUE, RESEARCHER, summary, refusal) is refusal
        stored = await world.desk.database.read(lambda connection: ledger.entry(connection, 1))
    assert stored is not None
    assert stored.kind == Kind.REQUEST_REFUSED.value
    assert b"POLICY_DENIED" in stored.body


def everything(database_url: str) -> list[ledger.StoredEntry]:
    database = open_database(database_url)
    try:
        return database.read_now(lambda connection: list(ledger.entries(connection)))
    finally:
        database.close()


async def test_a_flood_of_refusals_is_summed_up_in_an_entry(database_url: str) -> None:
    async with opened(database_url) as world:
        refusals, refusal = Refusals(world.desk), Refusal(Reason.POLICY_DENIED, "no")
        summary = RequestSummary()
        await asyncio.gather(*(refusals.settle(ISSUE, RESEARCHER, summary, refusal) for _ in range(3_000)))
    stored = everything(database_url)
    single = sum(entry.kind == Kind.REQUEST_REFUSED.value for entry in stored)
    sums = [json.loads(entry.body) for entry in stored if entry.kind == Kind.REFUSALS_SUMMARISED.value]
    assert 0 < single < 500
    assert len(sums) < 10
    assert {(body["tenant"], body["observed"]["principal"]) for body in sums} == {("acme", RESEARCHER.id)}
    assert single + sum(body["effected"]["count"] for body in sums) == 3_000


async def test_refusals_of_nobody_are_counted_but_for_a_sample(database_url: str) -> None:
    async with opened(database_url) as world:
        refusals = Refusals(world.desk)
        summary = RequestSummary(task_id="x" * 10_000, tools=("y" * 10_000,) * 99)
        for reason in (Reason.IDENTITY_MISSING, Reason.IDENTITY_INVALID) * 100:
            await refusals.settle(ISSUE, None, summary, Refusal(reason, "no"))
    stored = everything(database_url)
    refused = [json.loads(entry.body) for entry in stored if entry.kind == Kind.REQUEST_REFUSED.value]
    sums = [json.loads(entry.body) for entry in stored if entry.kind == Kind.REFUSALS_SUMMARISED.value]
    for reason in (Reason.IDENTITY_MISSING, Reason.IDENTITY_INVALID):
        told = sum(body["decided"]["reason"] == reason for body in refused)
        counted = sum(body["effected"]["count"] for body in sums if body["decided"]["reason"] == reason)
        assert 0 < told < 20
        assert told + counted == 100
    assert {str(body["asserted"]) for body in refused} == {"{'method': 'IssueCredential'}"}
    assert sum(len(entry.body) for entry in stored) < 10_000


async def test_counts_are_recorded_without_anything_else_to_do(database_url: str) -> None:
    def sums(stored: list[ledger.StoredEntry]) -> int:
        return sum(json.loads(entry.body)["effected"].get("count", 0) for entry in stored)

    async with opened(database_url) as world:
        refusals = Refusals(world.desk)
        for _ in range(50):
            await refusals.settle(ISSUE, None, RequestSummary(), Refusal(Reason.IDENTITY_MISSING, "no"))
        found = 0
        for _ in range(600):
            await asyncio.sleep(0.05)
            found = sums(await world.desk.database.read(lambda connection: list(ledger.entries(connection))))
            if found == 42:
                break
        assert found == 42


async def test_request_ids_are_kept_as_hashes_alone(database_url: str) -> None:
    async with opened(database_url) as world:
        task = await world.task(request_id="a-secret-in-the-wrong-field")
        issued = await world.issue(task, request_id="another-secret")
        await world.renew(issued, request_id="a-third-secret")
        kept = await world.desk.database.read(lambda connection: connection.execute(select(requests)).all())
    assert len(kept) == 3
    assert "secret" not in str(kept)


async def test_the_same_request_id_gives_the_same_lease_once(database_url: str) -> None:
    async with opened(database_url) as world:
        task = await world.task()
        first, *others = await asyncio.gather(*(world.issue(task, request_id="r1") for _ in range(10)))
        assert {item.lease.id for item in others} == {first.lease.id}
        again = await world.issue(task, request_id="r1")
        assert again.lease.id == first.lease.id
        with pytest.raises(Refusal) as refused:
            await world.issue(task, "list_files", request_id="r1")
        assert refused.value.reason is Reason.REQUEST_ID_REUSED


async def test_the_same_request_id_gives_the_same_task_once(database_url: str) -> None:
    async with opened(database_url) as world:
        first = await world.task(request_id="t1")
        again = await world.task(request_id="t1")
        assert again.id == first.id
        with pytest.raises(Refusal) as refused:
            await world.task(request_id="t1", owner="bob")
        assert refused.value.reason is Reason.REQUEST_ID_REUSED


async def test_quotas_hold_under_concurrency(database_url: str) -> None:
    async with opened(database_url, limits=Limits(leases_per_task=7, leases_per_minute=10)) as world:
        one, two = await world.task(), await world.task()
        outcomes = await asyncio.gather(*(world.issue(one) for _ in range(20)), return_exceptions=True)
        assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == 7
        outcomes = await asyncio.gather(*(world.issue(two) for _ in range(20)), return_exceptions=True)
        assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == 3
        world.clock.move(timedelta(minutes=1))
        await world.issue(two)


async def test_another_tenant_sees_no_task_and_no_lease(database_url: str) -> None:
    async with opened(database_url) as world:
        task = await world.task()
        issued = await world.issue(task)
        for attempt in (
            world.issue(task, agent=STRANGER),
            world.release(issued, STRANGER),
            world.renew(issued, STRANGER),
            tasks.show(world.desk, STRANGER, task.id),
        ):
            with pytest.raises(Refusal) as refused:
                await attempt
            assert refused.value.reason in (Reason.TASK_NOT_FOUND, Reason.LEASE_NOT_FOUND)


async def test_a_ledger_opens_again_where_it_stood(database_url: str) -> None:
    key = note_signer()
    async with opened(database_url, note_key=key) as world:
        task = await world.task()
    async with opened(database_url, note_key=key) as world:
        issued = await world.issue(task)
        assert issued.lease.index == 2


async def test_a_stale_copy_of_a_task_is_decided_anew(database_url: str) -> None:
    async with opened(database_url) as world:
        task = await world.task()
        await world.issue(task)
        longer = await tasks.extend(world.desk, ORCHESTRATOR, task.id, task.deadline + timedelta(hours=1))
        world.desk.tasks.update({task.id: task})
        issued = await world.issue(task)
        assert issued.lease.max_expires_at <= longer.deadline


async def test_a_lease_that_another_broker_has_renewed_is_renewed_as_it_is(database_url: str) -> None:
    key = note_signer()
    async with opened(database_url, note_key=key) as one, opened(database_url, note_key=key) as other:
        issued = await one.issue(await one.task())
        await other.renew(issued)
        assert one.desk.ledger.recall(issued.lease.id) == issued.lease
        assert (await one.renew(issued)).lease.renewals == 2


async def test_a_lease_is_renewed_by_no_copy_once_another_broker_has_ended_it(database_url: str) -> None:
    key = note_signer()
    async with opened(database_url, note_key=key) as one, opened(database_url, note_key=key) as other:
        task = await one.task()
        issued = await one.issue(task)
        await other.end(task)
        with pytest.raises(Refusal) as refused:
            await one.renew(issued)
        assert (refused.value.reason, refused.value.hints.lease_state) == (Reason.LEASE_NOT_LIVE, "revoked")


async def test_an_ended_lease_says_how_it_ended_when_its_rule_is_out_of_force(database_url: str) -> None:
    key, clock = note_signer(), ManualClock()
    async with opened(database_url, note_key=key, clock=clock) as world:
        lease_id = (await world.issue(await world.task())).lease.id
        await world.revoke(Selector("acme", Target.LEASE, lease_id))
    clock.move(timedelta(days=3))
    async with opened(database_url, note_key=key, clock=clock) as world:
        task = await world.task()
        await asyncio.gather(*(world.issue(task) for _ in range(1_000)))  # so that what is in force is committed to
        assert not world.follower.in_force.rules()
        lease = await world.desk.ledger.write(Change(lambda now: now.leases.find(lease_id), leases=(lease_id,)))
        assert lease is not None
        assert lease.state(clock()) is LeaseState.REVOKED


async def test_nothing_secret_is_in_the_database(database_url: str) -> None:
    async with opened(database_url) as world:
        issued = await world.issue(await world.task(), explanation="because I was told to")
        signature = issued.token.rpartition(".")[2]
        rows = await world.desk.database.read(
            lambda connection: [
                repr(tuple(row))
                for table in ledger_entries.metadata.sorted_tables
                for row in connection.execute(select(table))
            ]
        )
    assert rows
    assert not any(signature in row or issued.token in row for row in rows)


async def test_a_lost_database_refuses_and_recovers_by_itself(database_url: str) -> None:
    async with opened(database_url) as world:
        task = await world.task()
        await world.issue(task)
        database = world.desk.database
        with database.transaction() as connection:
            connection.execute(text("ALTER TABLE ledger_head RENAME TO lost"))
        with pytest.raises(Exception, match="ledger") as refused:
            await world.issue(task)
        assert not isinstance(refused.value, Refusal) or refused.value.reason is Reason.LEDGER_UNAVAILABLE
        with database.transaction() as connection:
            connection.execute(text("ALTER TABLE lost RENAME TO ledger_head"))
        await world.issue(task)


async def test_a_ledger_of_another_key_is_not_written_on(database_url: str) -> None:
    ours, theirs = note_signer(), note_signer()
    async with opened(database_url, note_key=theirs) as world:
        await world.task()
    with pytest.raises(LedgerMismatch) as mismatch:
        async with opened(database_url, note_key=ours):
            pytest.fail("it must not start")
    assert str(ours.vkey) in str(mismatch.value)
    assert str(theirs.vkey) in str(mismatch.value)
    assert verification.verify(database_url).ok
    async with opened(database_url, note_key=theirs) as world:
        await world.task()
    assert verification.verify(database_url, str(theirs.vkey)).ok


async def test_a_head_that_another_key_has_signed_is_not_extended(database_url: str) -> None:
    ours, theirs = note_signer(), note_signer()
    async with opened(database_url, note_key=ours) as world:
        await world.task()
        database = world.desk.database
        with database.transaction() as connection:
            head = ledger.head(connection)
            assert head is not None
            text_of_it = verify_note(head.note, ours.vkey)
            connection.execute(ledger_head.update().values(note=theirs.sign(text_of_it)))
    with pytest.raises(LedgerMismatch, match="does not verify by the checkpoint key"):
        async with opened(database_url, note_key=ours):
            pytest.fail("it must not start")
