"""How long a lease lives through its renewals: never beyond its caps, and never less than a token that is out."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from broker.lease import renew, tasks
from broker.lease.desk import Limits
from broker.model.errors import Reason, Refusal
from tests.support.world import ORCHESTRATOR, RESEARCHER, WRITER, opened


async def test_a_shorter_renewal_leaves_the_lease_its_longer_token(database_url: str) -> None:
    async with opened(database_url) as world:
        issued = await world.issue(await world.task(), lifetime=timedelta(minutes=4))
        renewed = await renew.renew(world.desk, RESEARCHER, issued.lease.id, timedelta(seconds=30), "")
        assert renewed.lease.expires_at == issued.lease.expires_at


async def test_a_renewal_ends_with_the_leases_total_lifetime(database_url: str) -> None:
    total = timedelta(minutes=6)
    async with opened(database_url, limits=Limits(total_lifetime=total)) as world:
        issued = await world.issue(await world.task())
        world.clock.move(timedelta(minutes=4))
        renewed = await world.renew(issued)
        assert issued.lease.expires_at < renewed.lease.expires_at == issued.lease.issued_at + total


async def test_no_lease_outlives_the_proof_of_its_holder(database_url: str) -> None:
    async with opened(database_url) as world:
        until = world.clock() + timedelta(seconds=90)
        brief = replace(RESEARCHER, not_after=until)
        issued = await world.issue(await world.task(), agent=brief)
        assert issued.lease.expires_at == until
        world.clock.move(timedelta(seconds=60))
        assert (await world.renew(issued, agent=brief)).lease.expires_at == until
        world.clock.move(timedelta(seconds=29.5))
        with pytest.raises(Refusal) as refused:
            await world.renew(issued, agent=brief)
        assert refused.value.reason is Reason.LIFETIME_EXHAUSTED


async def test_no_credential_is_issued_for_a_task_past_its_deadline(database_url: str) -> None:
    async with opened(database_url) as world:
        task = await world.task()
        world.clock.move(task.deadline - world.clock())
        with pytest.raises(Refusal) as refused:
            await world.issue(task)
        assert refused.value.reason is Reason.TASK_NOT_ACTIVE


async def test_an_agent_gets_nothing_for_a_task_that_does_not_name_it(database_url: str) -> None:
    async with opened(database_url) as world:
        task = await world.task(agents=(RESEARCHER.id,))
        with pytest.raises(Refusal) as refused:
            await world.issue(task, agent=WRITER)
        assert refused.value.reason is Reason.TASK_NOT_FOUND


async def test_a_task_is_extended_and_never_cut_short(database_url: str) -> None:
    async with opened(database_url) as world:
        task = await world.task()
        for deadline in (task.deadline, task.deadline - timedelta(seconds=1)):
            with pytest.raises(Refusal) as refused:
                await tasks.extend(world.desk, ORCHESTRATOR, task.id, deadline)
            assert refused.value.reason is Reason.INVALID_ARGUMENT
            assert refused.value.message == (
                "deadline: must be later than the present deadline; to stop sooner, end the task"
            )
        later = task.deadline + timedelta(seconds=1)
        assert (await tasks.extend(world.desk, ORCHESTRATOR, task.id, later)).deadline == later


async def test_what_has_expired_is_given_back_without_an_entry(database_url: str) -> None:
    async with opened(database_url) as world:
        issued = await world.issue(await world.task())
        world.clock.move(issued.lease.expires_at - world.clock())
        assert await world.release(issued) == issued.lease.index
        assert world.rules == []


async def test_a_proof_that_is_good_for_one_task_gets_nothing_for_another(database_url: str) -> None:
    async with opened(database_url) as world:
        task, other = await world.task(), await world.task()
        confined = replace(RESEARCHER, task_id=other.id)
        with pytest.raises(Refusal) as refused:
            await world.issue(task, agent=confined)
        assert refused.value.reason is Reason.TASK_NOT_FOUND
        assert f"is good for task `{other.id}` alone" in refused.value.message
        assert (await world.issue(other, agent=confined)).lease.task_id == other.id
