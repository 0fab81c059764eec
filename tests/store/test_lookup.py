"""Leases are read for many callers at once; each sees what was true when it asked, and none waits for another's end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import event, text

from broker.lease.token import Issued
from broker.model.errors import Reason, Refusal
from tests.support.world import STRANGER, World, note_signer, opened


def looks(world: World) -> list[str]:
    """List the statements on leases, from now on."""
    seen: list[str] = []

    def note(*call: object) -> None:
        if "FROM leases" in str(call[2]):
            seen.append(str(call[2]))

    event.listen(world.desk.database.engine, "before_cursor_execute", note)
    return seen


@asynccontextmanager
async def restarted(url: str, *, leases: int = 1) -> AsyncIterator[tuple[World, list[Issued]]]:
    """Open a broker that remembers none of the leases that it has issued, and has to look them up."""
    note_key = note_signer()
    async with opened(url, note_key=note_key) as before:
        task = await before.task()
        issued = await asyncio.gather(*(before.issue(task) for _ in range(leases)))
    async with opened(url, note_key=note_key) as world:
        yield world, issued


async def test_many_renewals_at_once_read_their_leases_together(database_url: str) -> None:
    async with restarted(database_url, leases=100) as (world, issued):
        seen = looks(world)
        renewed = await asyncio.gather(*(world.renew(item) for item in issued))
        assert [item.lease.id for item in renewed] == [item.lease.id for item in issued]
        assert 0 < len(seen) < 20


async def test_a_look_begins_after_it_was_asked_for(database_url: str) -> None:
    async with opened(database_url) as world:
        task = await world.task()
        issued = await world.issue(task)
        first = asyncio.create_task(world.desk.leases.find(issued.lease.id))
        await world.release(issued)
        found = await world.desk.leases.find(issued.lease.id)
        assert found is not None
        assert found.revoked_index is not None
        assert await first is not None
        assert await world.desk.leases.find("no-such-lease") is None


async def test_who_goes_away_takes_the_look_from_nobody(database_url: str) -> None:
    async with opened(database_url) as world:
        issued = await world.issue(await world.task())
        gone, stays = (asyncio.create_task(world.desk.leases.find(issued.lease.id)) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        found = await stays
        assert found is not None
        assert found.id == issued.lease.id


async def test_a_failed_look_is_told_to_all_who_wait_and_to_nobody_after(database_url: str) -> None:
    async with restarted(database_url) as (world, (issued,)):
        with world.desk.database.transaction() as connection:
            connection.execute(text("ALTER TABLE leases RENAME TO lost"))
        outcomes = await asyncio.gather(*(world.renew(issued) for _ in range(5)), return_exceptions=True)
        for outcome in outcomes:
            assert isinstance(outcome, Refusal)
            assert outcome.reason is Reason.LEDGER_UNAVAILABLE
        with world.desk.database.transaction() as connection:
            connection.execute(text("ALTER TABLE lost RENAME TO leases"))
        await world.renew(issued)


async def test_a_lease_of_somebody_else_is_not_found_by_sharing_a_look(database_url: str) -> None:
    async with restarted(database_url) as (world, (issued,)):
        mine, theirs = await asyncio.gather(
            world.renew(issued), world.renew(issued, agent=STRANGER), return_exceptions=True
        )
        assert not isinstance(mine, BaseException)
        assert isinstance(theirs, Refusal)
        assert theirs.reason is Reason.LEASE_NOT_FOUND
        with pytest.raises(Refusal):
            await world.renew(issued, agent=STRANGER)
