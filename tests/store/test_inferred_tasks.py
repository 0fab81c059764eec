"""Which task a caller means that names none: the one of its proof, or the only live one that it is in."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from broker.lease.infer_task import infer_task
from broker.model.errors import Reason, Refusal
from tests.support.world import RESEARCHER, STRANGER, WRITER, World, opened


async def refused(world: World) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        await infer_task(world.desk, RESEARCHER)
    return refusal.value


async def test_a_proof_may_name_the_task(database_url: str) -> None:
    async with opened(database_url) as world:
        await world.task()
        assert await infer_task(world.desk, replace(RESEARCHER, task_id="another")) == "another"


async def test_it_is_the_only_live_task_that_names_the_caller(database_url: str) -> None:
    async with opened(database_url) as world:
        ended, meant = await world.task(), await world.task()
        await world.task(agents=(WRITER.id,))
        await world.task(deadline=world.clock() + timedelta(minutes=1))
        await world.end(ended)
        world.clock.move(timedelta(minutes=1))
        assert await infer_task(world.desk, RESEARCHER) == meant.id


async def test_where_there_is_none_the_caller_is_told(database_url: str) -> None:
    async with opened(database_url) as world:
        await world.task(agents=(WRITER.id,))
        refusal = await refused(world)
        assert refusal.reason is Reason.TASK_NOT_FOUND
        assert refusal.message == f"no live task names `{RESEARCHER.id}`"
        await world.task()
        with pytest.raises(Refusal):  # of the same name, in another tenant
            await infer_task(world.desk, STRANGER)


async def test_among_several_the_caller_has_to_say_which(database_url: str) -> None:
    async with opened(database_url) as world:
        await world.task()
        await world.task()
        refusal = await refused(world)
        assert refusal.reason is Reason.TASK_AMBIGUOUS
        assert refusal.hints.next == "say which one is meant, by the parameter `task`"
