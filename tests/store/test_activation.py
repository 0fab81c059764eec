"""What governs decisions and tokens from now on stands in the ledger, for all tenants."""

from __future__ import annotations

from broker.audit import canonical
from broker.lease.activation import keys_rotated, policy_activated
from broker.store import ledger
from tests.support.world import World, opened


async def newest(world: World) -> dict[str, object]:
    head = await world.desk.database.read(ledger.head)
    assert head is not None
    index = head.next_index - 1
    entry = (await world.desk.database.read(lambda connection: ledger.fetch(connection, [index])))[index]
    return dict(canonical.decode(entry))


async def test_the_bundle_in_use_is_recorded_with_all_its_policies(database_url: str) -> None:
    async with opened(database_url) as world:
        bundle = world.desk.policy().bundle
        await policy_activated(world.desk)
        entry = await newest(world)
        assert (entry["kind"], entry["tenant"]) == ("policy.activated", "")
        assert entry["effected"] == {"revision": bundle.revision, "policies": sorted(bundle.policies)}


async def test_the_keys_that_verify_tokens_are_recorded_in_one_order(database_url: str) -> None:
    async with opened(database_url) as world:
        await keys_rotated(world.desk, ["b", "a"])
        entry = await newest(world)
        assert (entry["kind"], entry["tenant"]) == ("keys.rotated", "")
        assert entry["effected"] == {"kids": ["a", "b"]}
