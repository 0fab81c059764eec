"""What operators and auditors look at and touch is what their tenant may: no door need ask for itself."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import pytest

from broker.lease import lock, revoke, slips, views
from broker.lease.desk import Desk
from broker.model.errors import Reason, Refusal
from broker.model.principal import ANY_TENANT, Principal, Role
from broker.model.selector import Selector, Target
from broker.store import ledger
from tests.support.world import World, opened, principal

EVERYTHING = Selector("acme", Target.ALL)


def operator(tenant: str) -> Principal:
    return principal("spiffe://example.org/operator", Role.OPERATORS, tenant)


def auditor(tenant: str) -> Principal:
    return principal("spiffe://example.org/auditor", Role.AUDITORS, tenant)


async def entries_of(world: World, tenant: str) -> set[str]:
    stored = await views.entries(world.desk, auditor(tenant), None, 0, 1_000)
    return {json.loads(entry.body)["tenant"] for entry in stored}


async def test_an_operator_sees_the_leases_and_locks_of_its_tenant(database_url: str) -> None:
    async with opened(database_url) as world:
        issued = await world.issue(await world.task())
        lock_id = await world.lock(Selector("acme", Target.TASK, "another"))
        for tenant, sees in (("acme", True), (ANY_TENANT, True), ("globex", False)):
            caller = operator(tenant)
            leases = await views.leases(world.desk, caller, None, None, None, 100)
            locks = await views.active_locks(world.desk, caller, None, 100)
            assert [lease.id for lease in leases] == [issued.lease.id] * sees
            assert [lock.id for lock in locks] == [lock_id] * sees
        (active,) = await views.active_locks(world.desk, operator("acme"), issued.lease.index, 1)
        assert not await views.active_locks(world.desk, operator("acme"), active.index + 1, 1)
        assert await views.lease(world.desk, operator("acme"), issued.lease.id) == issued.lease


async def test_a_lease_of_another_tenant_looks_as_if_it_were_not_there(database_url: str) -> None:
    async with opened(database_url) as world:
        issued = await world.issue(await world.task())
        told = []
        for lease_id in (issued.lease.id, "none"):
            with pytest.raises(Refusal) as refused:
                await views.lease(world.desk, operator("globex"), lease_id)
            told.append((refused.value.reason, refused.value.message.replace(lease_id, "ID")))
        assert told[0] == told[1] == (Reason.LEASE_NOT_FOUND, "there is no lease `ID`")


Act = Callable[[Desk, Principal], Awaitable[object]]
ACTS: dict[str, Act] = {
    "list": lambda desk, caller: views.leases(desk, caller, EVERYTHING, None, None, 100),
    "preview": lambda desk, caller: revoke.preview(desk, caller, EVERYTHING),
    "revoke": lambda desk, caller: revoke.revoke(desk, caller, EVERYTHING, "mine now", None),
    "lock": lambda desk, caller: lock.lock(desk, caller, EVERYTHING, "mine now", None),
    "slips": lambda desk, caller: slips.in_selector(desk, caller, EVERYTHING),
}


@pytest.mark.parametrize("act", ACTS)
async def test_nobody_reaches_beyond_its_tenant(database_url: str, act: str) -> None:
    async with opened(database_url) as world:
        await world.issue(await world.task())
        before = await world.desk.database.read(lambda connection: list(ledger.entries(connection)))
        with pytest.raises(Refusal) as refused:
            await ACTS[act](world.desk, operator("globex"))
        assert refused.value.reason is Reason.TENANT_FORBIDDEN
        assert await world.desk.database.read(lambda connection: list(ledger.entries(connection))) == before
        await ACTS[act](world.desk, operator("acme"))
        await ACTS[act](world.desk, operator(ANY_TENANT))


async def test_an_auditor_sees_the_entries_of_its_tenant(database_url: str) -> None:
    async with opened(database_url) as world:
        task = await world.task()
        await world.issue(task)
        assert await entries_of(world, "acme") == {"acme"}
        assert await entries_of(world, "globex") == set()
        assert "acme" in await entries_of(world, ANY_TENANT)
        of_task = await views.entries(world.desk, auditor("acme"), task.id, 0, 100)
        assert [json.loads(entry.body)["kind"] for entry in of_task] == ["task.created", "lease.issued"]


async def test_proofs_are_of_what_is_there(database_url: str) -> None:
    async with opened(database_url) as world:
        await world.task()
        head = await views.checkpoint(world.desk)
        first = (await views.entries(world.desk, auditor("acme"), None, 0, 1))[0]
        assert (await views.inclusion(world.desk, first.index)).head == head
        assert (await views.consistency(world.desk, head.frontier.size)).head == head
        with pytest.raises(Refusal, match="ENTRY_NOT_FOUND"):
            await views.inclusion(world.desk, head.next_index)
        with pytest.raises(Refusal, match="INVALID_ARGUMENT"):
            await views.consistency(world.desk, head.frontier.size + 1)
