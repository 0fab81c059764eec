"""Housekeeping is done whole, in small steps, and leaves the ledger to others in between."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, func, select

from broker.lease.expire import record_expiry
from broker.lease.retention import forget_old
from broker.model.entry import Kind
from broker.model.selector import Selector, Target
from broker.store import leases as lease_rows
from broker.store import ledger, migrate, verification
from broker.store.database import open_database
from broker.store.schema import explanations, leases, quotas, requests, rules, task_agents
from tests.support.world import START, ManualClock, World, note_signer, opened

LEASES = 450
DAY = timedelta(days=1)


async def expired(world: World) -> list[list[str]]:
    """List the leases of each entry that records expiries."""
    entries = await world.desk.database.read(lambda connection: list(ledger.entries(connection)))
    bodies = [json.loads(entry.body) for entry in entries if entry.kind == Kind.LEASES_EXPIRED.value]
    return [body["effected"]["leases"] for body in bodies]


async def test_many_expiries_at_once_are_recorded_in_small_steps_with_rests(database_url: str) -> None:
    async with opened(database_url) as world:
        task = await world.task()
        issued = await asyncio.gather(*(world.issue(task) for _ in range(LEASES)))
        dead = issued[0].lease.id
        await world.revoke(Selector("acme", Target.LEASE, dead))
        world.clock.move(timedelta(hours=1))
        began = time.monotonic()
        recording = asyncio.create_task(record_expiry(world.desk))
        await asyncio.sleep(0)
        between = await world.issue(task)
        assert await recording == between.lease.expires_at
        recorded = await expired(world)
        assert time.monotonic() - began >= (len(recorded) - 1) * 0.01
        assert max(map(len, recorded)) <= 100
        assert sorted(chain(*recorded)) == sorted({item.lease.id for item in issued} - {dead})
        assert await record_expiry(world.desk) == between.lease.expires_at
        assert len(await expired(world)) == len(recorded), "nothing is recorded twice"
        last = await world.desk.database.read(ledger.last_index)
        assert between.lease.index < last - 1, "who asks meanwhile need not wait for the end"


async def test_what_is_past_retention_is_forgotten_whole(database_url: str) -> None:
    async with opened(database_url) as world:
        task = await world.task()
        issued = await asyncio.gather(
            *(world.issue(task, request_id=f"r{number}", explanation="why not") for number in range(LEASES))
        )
        for item in issued[:210]:
            await world.release(item)
        world.clock.move(60 * DAY)
        await record_expiry(world.desk)
        assert await forget_old(world.desk) == LEASES
        counts = await world.desk.database.read(
            lambda connection: {
                table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in (leases, requests, explanations, task_agents, quotas)
            }
        )
        assert counts == dict.fromkeys(counts, 0)
    report = verification.verify(database_url)
    assert report.ok, report.findings


async def test_rules_are_forgotten_once_no_clock_can_make_them_matter_again(tmp_path: Path) -> None:
    url, clock, note_key = str(tmp_path / "broker.db"), ManualClock(), note_signer()
    migrate.upgrade(url)

    async def count() -> int:
        async with opened(url, clock=clock, note_key=note_key) as world:
            await forget_old(world.desk)
            task = await world.task()
            await asyncio.gather(*(world.issue(task) for _ in range(1_100)))  # so that what is in force is committed to
            await forget_old(world.desk)
            return len(await world.desk.database.read(lambda connection: connection.execute(select(rules)).all()))

    async with opened(url, clock=clock, note_key=note_key) as world:
        await world.release(await world.issue(await world.task()))
        clock.move(60 * DAY)
        await forget_old(world.desk)
        assert len(await world.desk.database.read(lambda connection: connection.execute(select(rules)).all())) == 1
    assert await count() == 0, "a broker that begins then takes the clock for right, to within a day"
    report = verification.verify(url)
    assert report.ok, report.findings


@pytest.mark.parametrize(
    "look",
    [
        lambda connection: lease_rows.due(connection, START, 100),
        lease_rows.next_due,
        lambda connection: lease_rows.forget(connection, START, 100),
    ],
    ids=["due", "next_due", "forget"],
)
def test_what_is_due_is_found_by_its_index_however_many_leases_there_are(
    tmp_path: Path, look: Callable[[Connection], object]
) -> None:
    migrate.upgrade(str(tmp_path / "broker.db"))
    database = open_database(str(tmp_path / "broker.db"))
    asked: list[tuple[str, Any]] = []
    with database.transaction() as connection:
        event.listen(
            database.engine, "before_cursor_execute", lambda *call: asked.append((call[2], call[3])), named=False
        )
        look(connection)
        (statement, values), *_ = asked
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all()
    database.close()
    assert any("USING" in row[3] and "INDEX leases_" in row[3] for row in plan), plan
    assert not any(row[3].startswith("SCAN") for row in plan), plan
