"""A keystore: its keys change by themselves when it is time, whoever has changed the folder meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker.keystore.folder import KeyFileError, create_keys, open_keys, replace_token_keys
from broker.keystore.rotation import Keystore, Rotation

DAY = timedelta(days=1)
ROTATION = Rotation(every=30 * DAY, lead=DAY, longest=timedelta(hours=1))
START = datetime(2030, 1, 1, tzinfo=UTC)


class World:
    """A folder of keys, a keystore that reads it, and a clock that is set by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = START
        create_keys(folder, START)
        self.keystore = self.another()

    def another(self) -> Keystore:
        return Keystore(self.folder, ROTATION, lambda: self.now)

    def files(self) -> set[str]:
        return {file.name.removeprefix("token-").removesuffix(".pem") for file in self.folder.glob("token-*.pem")}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "keys")


async def test_nothing_changes_before_it_is_time(world: World) -> None:
    world.now = START + 29 * DAY - timedelta(microseconds=1)
    before = world.keystore.kids()
    assert not await world.keystore.rotate()
    assert world.keystore.kids() == before
    assert world.keystore.signer().kid == before[0]


async def test_the_next_key_is_published_ahead_of_its_turn_and_the_old_one_stays_for_its_last_token(
    world: World,
) -> None:
    (old,) = world.keystore.kids()
    world.now = START + 29 * DAY
    assert await world.keystore.rotate()
    assert not await world.keystore.rotate(), "the next one is there already"
    _, new = world.keystore.kids()
    assert world.keystore.published().find(new) is not None
    assert world.keystore.signer().kid == old
    world.now = START + 30 * DAY
    assert world.keystore.signer().kid == new, "its turn comes by the clock alone"
    world.now += ROTATION.longest
    assert not await world.keystore.rotate()
    assert world.keystore.published().find(old) is not None
    world.now += timedelta(microseconds=1)
    assert await world.keystore.rotate()
    assert world.keystore.kids() == [new]
    assert world.files() == {new}


async def test_what_another_broker_has_done_to_the_folder_counts(world: World) -> None:
    other = world.another()
    world.now = START + 29 * DAY
    assert await other.rotate()
    assert await world.keystore.rotate()
    assert world.keystore.kids() == other.kids()
    replace_token_keys(world.folder, world.now)
    assert await world.keystore.rotate()
    assert len(world.keystore.kids()) == 1
    assert not set(world.keystore.kids()) & set(other.kids())


async def test_keys_that_cannot_be_read_any_more_leave_those_in_use(world: World) -> None:
    before, checkpoint = world.keystore.kids(), world.keystore.checkpoint
    keyring = (world.folder / "keyring.json").read_bytes()
    (world.folder / "keyring.json").write_bytes(b"{")
    with pytest.raises(KeyFileError, match="malformed"):
        await world.keystore.rotate()
    assert world.keystore.kids() == before
    assert world.keystore.signer().kid == before[0]
    (world.folder / "keyring.json").write_bytes(keyring)
    world.now = START + 29 * DAY
    assert await world.keystore.rotate()
    same = world.keystore.checkpoint.public_key().public_bytes_raw()
    assert (
        same
        == checkpoint.public_key().public_bytes_raw()
        == open_keys(world.folder).checkpoint.public_key().public_bytes_raw()
    ), "the ledger's key does not rotate"
