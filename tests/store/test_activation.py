"""What governs decisions and tokens from now on stands in the ledger, for all tenants."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from broker.audit import canonical
from broker.keystore.folder import create_keys, open_keys, publish_next
from broker.lease.activation import keys_announced, policy_activated
from broker.store import ledger
from tests.support.token_keys import token_keys
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


async def test_the_keys_that_verify_tokens_are_recorded_in_one_order_and_once(
    database_url: str, tmp_path: Path
) -> None:
    async with opened(database_url) as world:
        create_keys(tmp_path / "keys", world.clock())
        publish_next(tmp_path / "keys", open_keys(tmp_path / "keys"), world.clock() + timedelta(hours=1))
        keys = token_keys(world, tmp_path / "keys")
        assert await keys_announced(world.desk, keys)
        entry = await newest(world)
        assert (entry["kind"], entry["tenant"]) == ("keys.rotated", "")
        announced = world.follower.in_force.announced
        assert entry["effected"] == announced.facts()
        assert announced.facts()["kids"] == sorted(keys.keystore.keys.signers)
        assert not await keys_announced(world.desk, keys)
        assert await newest(world) == entry
