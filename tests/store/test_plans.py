"""However much there is, a broker finds what it looks for by an index."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event

from broker.audit.proof import NodeId
from broker.jobs import checkpoint_copy
from broker.jobs.checkpoint_copy import CheckpointCopy
from broker.jobs.effects import EffectRunner
from broker.lease.expire import record_expiry
from broker.lease.retention import forget_old
from broker.model.selector import Selector, Target
from broker.store import ledger, migrate, proofs, requests
from broker.store.database import open_database
from tests.support.world import REPO, note_signer, opened

_GROWING = {
    "effects",
    "explanations",
    "ledger_entries",
    "ledger_nodes",
    "leases",
    "quotas",
    "requests",
    "rules",
    "tasks",
}
_READS = ("SELECT", "WITH", "UPDATE", "DELETE")


@contextmanager
def whole_reads() -> Iterator[list[str]]:
    """Collect, at the end of a block, the statements for which SQLite reads a table that grows from end to end."""
    found: list[str] = []
    seen: dict[str, set[str]] = {}  # by the path of the file: as the driver runs them, with their values
    drivers: list[sqlite3.Connection] = []

    def listen(*call: object) -> None:
        connection, *_ = call
        assert isinstance(connection, Connection)
        driver, path = connection.connection.driver_connection, connection.engine.url.database
        assert isinstance(driver, sqlite3.Connection)
        driver.set_trace_callback(seen.setdefault(path or "", set()).add)
        drivers.append(driver)

    event.listen(Engine, "before_cursor_execute", listen, named=False)
    try:
        yield found
    finally:
        event.remove(Engine, "before_cursor_execute", listen)
        for driver in drivers:
            driver.set_trace_callback(None)
    for path, statements in seen.items():
        found += _whole_reads(path, [statement for statement in statements if statement.lstrip().startswith(_READS)])


def _whole_reads(path: str, statements: Sequence[str]) -> list[str]:
    assert any("UPDATE ledger_head" in statement for statement in statements)  # none is hidden
    with closing(sqlite3.connect(path)) as driver:
        plans = [(statement, driver.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()) for statement in statements]
    return [f"{step}: {statement}" for statement, plan in plans for *_, step in plan if _is_whole_read(step)]


def _is_whole_read(step: str) -> bool:
    verb, table, *how = step.split(" ")
    return verb == "SCAN" and table in _GROWING and "INDEX" not in how


async def test_nothing_that_a_broker_does_reads_a_whole_table(tmp_path: Path) -> None:
    url = str(tmp_path / "broker.db")
    migrate.upgrade(url)
    key = note_signer()
    async with opened(url, note_key=key, asks=[checkpoint_copy.ask]) as world:
        with whole_reads() as found:
            task = await world.task(request_id="begin")
            together = (world.issue(task, request_id=f"{number}", explanation="because") for number in range(9))
            issued = await asyncio.gather(*together)
            assert (await world.issue(task, request_id="3", explanation="because")).lease == issued[3].lease
            await world.renew(issued[0])
            await world.release(issued[1])
            await world.revoke(Selector("acme", Target.TOOL, f"{REPO}#read_file"))
            await world.unlock(await world.lock(Selector("acme", Target.TASK, task.id)))
            await world.end(task)
            for prove in (proofs.prove_inclusion, proofs.prove_consistency):
                assert await world.desk.database.read(lambda connection, prove=prove: prove(connection, 5))  # type: ignore[misc]
            world.clock.move(timedelta(minutes=1))
            desk, copy = world.desk, CheckpointCopy(tmp_path, world.desk.database, key.vkey)
            await EffectRunner(desk.ledger, desk.database, desk.clock, {checkpoint_copy.KIND: copy.do}).do_due(
                checkpoint_copy.KIND
            )
            world.clock.move(timedelta(days=60))
            await record_expiry(world.desk)
            await forget_old(world.desk)
    assert found == []
    assert (tmp_path / checkpoint_copy.FILE).exists()


@pytest.mark.parametrize(
    ("fetch", "count"),
    [
        (lambda connection, ids: ledger.fetch_nodes(connection, [NodeId(1, 1 << 40 | n) for n in ids]), 5_000),
        (lambda connection, ids: requests.fetch(connection, [(f"p{n}", f"{n}") for n in ids]), 512),
    ],
    ids=["nodes", "requests"],
)
def test_many_are_looked_for_at_once(
    database_url: str, fetch: Callable[[Connection, range], dict[object, object]], count: int
) -> None:
    database = open_database(database_url)
    with database.transaction() as connection:
        assert fetch(connection, range(1)) == fetch(connection, range(count)) == {}
    database.close()
