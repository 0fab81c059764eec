"""Requests that come again after an upgrade: what another release kept of them is given, not compared."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from sqlalchemy import update

from broker.lease import renew
from broker.lease.token import Issued
from broker.model.errors import Reason, Refusal
from broker.model.task import Task
from broker.store.database import open_database
from broker.store.schema import requests
from tests.support.world import RESEARCHER, World, note_signer, opened

REPR = hashlib.sha256(b"('issue', Intent(task_id='t-1'))").digest()  # as releases before there were versions kept it
LATER = b"\x02" + REPR


def keep(database_url: str, digest: bytes) -> None:
    """Let all that is kept of requests have this digest."""
    database = open_database(database_url)
    try:
        with database.transaction() as connection:
            connection.execute(update(requests).values(digest=digest))
    finally:
        database.close()


async def renewed(world: World, issued: Issued, lifetime: timedelta | None) -> Issued:
    return await renew.renew(world.desk, RESEARCHER, issued.lease.id, lifetime, "r-renew")


@pytest.mark.parametrize("digest", [REPR, LATER], ids=["unversioned", "of a later version"])
async def test_what_another_release_has_answered_is_answered_alike(database_url: str, digest: bytes) -> None:
    key = note_signer()
    async with opened(database_url, note_key=key) as world:
        task = await world.task(request_id="r-task")
        issued = await world.issue(task, request_id="r-issue")
        first = await renewed(world, issued, None)
    keep(database_url, digest)
    async with opened(database_url, note_key=key) as world:
        assert (await world.task(request_id="r-task")).id == task.id
        assert (await world.issue(task, request_id="r-issue")).lease.id == issued.lease.id
        assert (await renewed(world, issued, None)).lease == first.lease
        # What was asked then cannot be told any more, so another request under the same id gets it as well.
        assert (await world.issue(task, "list_files", request_id="r-issue")).lease.grants == issued.lease.grants


async def test_what_this_release_has_answered_is_compared(database_url: str) -> None:
    key = note_signer()
    async with opened(database_url, note_key=key) as world:
        task = await world.task(request_id="r-task")
        issued = await world.issue(task, request_id="r-issue")
        first = await renewed(world, issued, None)
    async with opened(database_url, note_key=key) as world:
        assert (await world.task(request_id="r-task")).id == task.id
        assert (await world.issue(task, request_id="r-issue")).lease.id == issued.lease.id
        assert (await renewed(world, issued, None)).lease == first.lease
        others: list[Callable[[], Awaitable[Task | Issued]]] = [
            lambda: world.task(request_id="r-task", owner="bob"),
            lambda: world.issue(task, "list_files", request_id="r-issue"),
            lambda: world.issue(task, request_id="r-renew"),
            lambda: renewed(world, issued, timedelta(seconds=9)),
        ]
        for other in others:
            with pytest.raises(Refusal) as refused:
                await other()
            assert refused.value.reason is Reason.REQUEST_ID_REUSED


async def test_a_deadline_that_is_a_duration_counts_from_when_the_task_is_declared(database_url: str) -> None:
    async with opened(database_url) as world:
        declared_at = world.clock()
        task = await world.task(request_id="r-task", deadline=timedelta(hours=1))
        assert task.deadline == declared_at + timedelta(hours=1)
        world.clock.move(timedelta(minutes=10))
        assert await world.task(request_id="r-task", deadline=timedelta(hours=1)) == task
