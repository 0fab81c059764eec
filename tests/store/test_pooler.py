"""Behind a pooler that gives each transaction another session, nothing may rest on what a session remembers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import make_url

from broker.store import ledger, migrate
from broker.store.verification import verify
from tests.faults.pooler import Pooler
from tests.support.world import opened

pytestmark = pytest.mark.postgres


async def test_a_broker_works_behind_a_pooler_of_transactions(new_postgresql_url: Callable[[], str]) -> None:
    direct = make_url(new_postgresql_url())
    assert direct.database is not None
    with Pooler(Path(str(direct.query["host"])) / ".s.PGSQL.5432", direct.database).running() as pooler:
        url = direct.set(host="127.0.0.1", port=pooler.port, query={}).render_as_string(hide_password=False)
        migrate.upgrade(url)
        async with opened(url) as world:
            task = await world.task()
            for _ in range(12):  # psycopg prepares what it has sent for five times
                issued = (world.issue(task) for _ in range(5))
                read = (world.desk.database.read(ledger.head) for _ in range(5))
                await asyncio.gather(*issued, *read)
            await world.end(task)
        report = verify(url)
    assert report.ok, report.findings
    assert report.size == 2 + 60 + 1
    assert pooler.transactions > 100
    assert not pooler.refused
