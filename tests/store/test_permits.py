"""The road of every permit, taken by a use case that is neither issue nor renewal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

import pytest

from broker.lease import idempotency
from broker.lease.desk import Desk
from broker.lease.permit import Access, Permit, UseCase, obtain
from broker.model.decision import Action
from broker.model.entry import Kind
from broker.model.errors import Reason, Refusal
from broker.model.grant import Grant, ResourceGrants
from broker.model.lease import Lease
from broker.model.principal import Principal
from broker.model.selector import Selector, Target
from broker.model.task import Task
from broker.store.transaction import Stale, Transaction
from tests.support.world import REPO, RESEARCHER, STRANGER, World, opened

MOST = 5  # attempts


@dataclass
class Restless:
    """Issues a lease, and finds that something has changed, the first few times."""

    action: ClassVar[Action] = Action.ISSUE
    lease_ids: ClassVar[tuple[str, ...]] = ()

    task_id: str
    changes: int
    agent: Principal = RESEARCHER
    request: idempotency.Request | None = None
    steps: list[str] = field(default_factory=list)

    def access(self, task: Task, _at: datetime) -> Access:
        assert task.id == self.task_id
        self.steps.append("access")
        return Access(resource=REPO, grants=(Grant("read_file"),), lifetime=None)

    def hold(self, _transaction: Transaction) -> None:
        self.steps.append("hold")
        if self.changes:
            self.changes -= 1
            raise Stale

    def draw_up(self, desk: Desk, permit: Permit, transaction: Transaction) -> Lease:
        self.steps.append("draw up")
        return permit.new_lease(desk, transaction)

    def record(self, _desk: Desk, permit: Permit, lease: Lease, transaction: Transaction) -> None:
        self.steps.append("record")
        transaction.record(permit.entry(Kind.LEASE_ISSUED, lease, transaction.at, {}))
        transaction.leases.add(lease)


def prepared(case: Restless) -> Callable[[int], Awaitable[UseCase]]:
    async def prepare(attempt: int) -> Restless:
        case.steps.append(f"prepare {attempt}")
        return case

    return prepare


async def test_a_use_case_takes_the_steps_of_the_road_in_their_order(database_url: str) -> None:
    async with opened(database_url) as world:
        case = Restless((await world.task()).id, changes=0)
        issued = await obtain(world.desk, prepared(case))
        assert issued.token
        assert await found(world, issued.lease.id) == issued.lease
    assert case.steps == ["prepare 0", "access", "hold", "draw up", "record"]


async def test_what_has_changed_is_decided_again_from_the_start(database_url: str) -> None:
    async with opened(database_url) as world:
        case = Restless((await world.task()).id, changes=2)
        await obtain(world.desk, prepared(case))
    again = ["access", "hold"]
    assert case.steps == ["prepare 0", *again, "prepare 1", *again, "prepare 2", *again, "draw up", "record"]


async def test_what_never_stops_changing_is_given_up_and_nothing_recorded(database_url: str) -> None:
    async with opened(database_url) as world:
        case = Restless((await world.task()).id, changes=99)
        with pytest.raises(Refusal) as refused:
            await obtain(world.desk, prepared(case))
        assert refused.value.reason is Reason.UNAVAILABLE
    assert case.steps.count("hold") == MOST
    assert "record" not in case.steps


@pytest.mark.parametrize("agent", [STRANGER, RESEARCHER])
async def test_no_use_case_gets_past_the_guards_of_the_road(database_url: str, agent: Principal) -> None:
    """It cannot forget one: neither whose task it is, nor a lock."""
    async with opened(database_url) as world:
        case = Restless((await world.task()).id, changes=0, agent=agent)
        await world.lock(Selector("acme", Target.TOOL, f"{REPO}#read_file"))
        with pytest.raises(Refusal) as refused:
            await obtain(world.desk, prepared(case))
        assert refused.value.reason is (Reason.TASK_NOT_FOUND if agent is STRANGER else Reason.LOCKED)
    assert "record" not in case.steps


async def found(world: World, lease_id: str) -> Lease | None:
    return await world.desk.leases.find(lease_id)


async def test_who_names_no_tool_gets_what_policy_permits_of_what_the_task_declares(database_url: str) -> None:
    async with opened(database_url) as world:
        issued = await world.issue(await world.task(), grants=())
        assert [grant.tool for grant in issued.lease.grants] == ["read_file", "list_files"]


async def test_who_names_no_tool_is_refused_where_policy_permits_none(database_url: str) -> None:
    async with opened(database_url) as world:
        task = await world.task(tools=(ResourceGrants(REPO, (Grant("delete_repo"),)),))
        with pytest.raises(Refusal) as refused:
            await world.issue(task, grants=())
        assert refused.value.reason is Reason.POLICY_DENIED
        assert refused.value.hints.missing == "tool:delete_repo"
