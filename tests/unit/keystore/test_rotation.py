"""A broker's keys change by themselves when it is time, whoever has changed the folder meanwhile, and as announced."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker.audit.effects import KeysAnnounced
from broker.keystore import folder as folders
from broker.keystore.announcing import Rotation
from broker.keystore.folder import KeyFileError, create_keys, open_keys, replace_token_keys
from broker.keystore.rotation import Keystore
from broker.keystore.signing import TokenKeys
from broker.model.errors import Reason, Refusal

DAY, MOMENT = timedelta(days=1), timedelta(microseconds=1)
SPREAD = timedelta(seconds=10)
ROTATION = Rotation(every=30 * DAY, lead=DAY, longest=timedelta(hours=1), spread=SPREAD)
START = datetime(2030, 1, 1, tzinfo=UTC)


class World:
    """A ledger of announcements alone, a clock that is set by hand, and a folder of keys."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now, self.seconds = START, 0.0
        self.announced = KeysAnnounced(-1)
        create_keys(folder, START)
        self.keys = self.broker(folder)

    def broker(self, folder: Path) -> TokenKeys:
        return TokenKeys(Keystore(folder, ROTATION, lambda: self.now), lambda: self.announced, lambda: self.seconds)

    def another(self, name: str = "another") -> TokenKeys:
        create_keys(self.folder.with_name(name), self.now)
        return self.broker(self.folder.with_name(name))

    def pass_time(self, by: timedelta) -> None:
        self.now += by
        self.seconds += by.total_seconds()

    async def rotate(self, keys: TokenKeys | None = None) -> bool:
        """Do what a broker does every few seconds; report whether it has announced anything."""
        keys = keys or self.keys
        await keys.keystore.rotate(self.announced)
        news = keys.news(self.announced, self.announced.index + 1, self.now)
        self.announced = news or self.announced
        keys.look()
        await keys.keystore.settle(self.announced)
        return news is not None

    def kids(self, keys: TokenKeys | None = None) -> list[str]:
        return [*(keys or self.keys).keystore.keys.signers]

    def files(self) -> set[str]:
        return {file.name.removeprefix("token-").removesuffix(".pem") for file in self.folder.glob("token-*.pem")}


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path / "keys")
    assert await made.rotate()
    return made


def refused(keys: TokenKeys) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        keys.signer()
    assert refusal.value.reason is Reason.UNAVAILABLE
    assert keys.problem() == refusal.value.message
    return refusal.value


async def test_nothing_changes_before_it_is_time(world: World) -> None:
    before = world.kids()
    world.pass_time(15 * DAY - MOMENT)
    assert not await world.rotate()
    world.pass_time(MOMENT + 14 * DAY - MOMENT)
    assert await world.rotate(), "it is announced for longer"
    assert not await world.rotate()
    assert world.kids() == before
    assert world.keys.signer().kid == before[0]


async def test_the_next_key_is_published_ahead_of_its_turn_and_the_old_one_stays_for_its_last_token(
    world: World,
) -> None:
    (old,) = world.kids()
    world.pass_time(29 * DAY)
    assert await world.rotate()
    assert not await world.rotate(), "the next one is there already"
    _, new = world.kids()
    assert world.keys.published().find(new) is not None
    assert world.keys.signer().kid == old
    world.pass_time(DAY)
    assert world.keys.signer().kid == new, "its turn comes by the clock alone"
    world.pass_time(ROTATION.longest + SPREAD)
    assert not await world.rotate()
    assert world.keys.published().find(old) is not None
    world.pass_time(MOMENT)
    assert await world.rotate()
    assert world.keys.published().find(old) is None
    assert world.kids() == [new]
    assert world.files() == {new}


async def test_what_another_broker_has_done_to_the_folder_counts(world: World) -> None:
    other = world.broker(world.folder)
    world.pass_time(29 * DAY)
    assert await world.rotate(other)
    assert not await world.rotate(), "the other has announced it"
    assert world.kids() == world.kids(other)
    replace_token_keys(world.folder, world.now)
    assert await world.rotate()
    assert len(world.kids()) == 1
    assert not set(world.kids()) & set(world.kids(other))


async def test_keys_that_cannot_be_read_any_more_leave_those_in_use(world: World) -> None:
    before, checkpoint = world.kids(), world.keys.keystore.checkpoint
    keyring = (world.folder / "keyring.json").read_bytes()
    (world.folder / "keyring.json").write_bytes(b"{")
    with pytest.raises(KeyFileError, match="malformed"):
        await world.rotate()
    assert world.kids() == before
    assert world.keys.signer().kid == before[0]
    (world.folder / "keyring.json").write_bytes(keyring)
    world.pass_time(29 * DAY)
    assert await world.rotate()
    same = world.keys.keystore.checkpoint.public_key().public_bytes_raw()
    assert (
        same
        == checkpoint.public_key().public_bytes_raw()
        == open_keys(world.folder).checkpoint.public_key().public_bytes_raw()
    ), "the ledger's key does not rotate"


async def test_a_key_that_is_not_announced_signs_and_verifies_nothing(tmp_path: Path) -> None:
    world = World(tmp_path / "keys")
    assert refused(world.keys).hints.retry_seconds > 0
    (kid,) = world.kids()
    assert world.keys.published().find(kid) is None
    await world.rotate()
    assert world.keys.signer().kid == kid
    assert world.keys.published().find(kid) is not None


async def test_a_broker_that_joins_others_signs_when_their_verifiers_have_its_key(world: World) -> None:
    joined = world.another()
    assert await world.rotate(joined)
    (kid,) = world.kids(joined)
    assert world.keys.published().find(kid) is not None, "the others publish it at once"
    assert refused(joined).hints.retry_seconds == SPREAD.total_seconds()
    world.pass_time(SPREAD - MOMENT)
    assert refused(joined).hints.retry_seconds == 1
    world.pass_time(MOMENT)
    assert joined.signer().kid == kid
    assert joined.problem() is None


async def test_a_broker_that_starts_again_signs_at_once_and_waits_anew_where_it_has_not_waited(world: World) -> None:
    folder = world.folder.with_name("another")
    await world.rotate(world.another())
    world.pass_time(SPREAD / 2)
    again = world.broker(folder)
    assert not await world.rotate(again)
    refused(again)
    world.pass_time(SPREAD / 2)
    refused(again)
    assert world.broker(folder).signer().kid == world.kids(again)[0], "all have had it since before that start"
    world.pass_time(SPREAD / 2)
    again.signer()


async def test_no_clock_that_is_set_shortens_the_wait(world: World) -> None:
    joined = world.another()
    await world.rotate(joined)
    world.now += DAY
    refused(joined)
    world.seconds += SPREAD.total_seconds()
    joined.signer()


async def test_a_clock_that_is_set_back_keeps_no_broker_from_signing(world: World) -> None:
    world.now -= 2 * DAY
    assert world.keys.signer().kid == world.kids()[0]


async def test_a_next_key_whose_lead_is_short_waits_and_the_old_one_signs_meanwhile(world: World) -> None:
    (old,) = world.kids()
    with folders.held(world.folder):
        folders.publish_next(world.folder, open_keys(world.folder), world.now + timedelta(seconds=1))
    assert await world.rotate()
    world.pass_time(SPREAD - MOMENT)
    assert world.keys.signer().kid == old
    world.pass_time(MOMENT)
    assert world.keys.signer().kid == ({*world.kids()} - {old}).pop()


async def test_replaced_keys_verify_nothing_from_then_on_even_if_nobody_can_be_told(world: World) -> None:
    (old,) = world.kids()
    replace_token_keys(world.folder, world.now)
    await world.keys.keystore.rotate(world.announced)
    assert world.keys.published().find(old) is None
    refused(world.keys)
    assert await world.rotate()
    assert world.announced.withdrawn == (old,)
    assert open_keys(world.folder).keyring.withdrawn == (), "the ledger says so"
    refused(world.keys)
    world.pass_time(SPREAD)
    assert world.keys.signer().kid == world.kids()[0] != old


async def test_a_broker_whose_key_another_has_withdrawn_makes_a_new_one(world: World) -> None:
    joined = world.another()
    await world.rotate(joined)
    world.pass_time(SPREAD)
    (stolen,) = world.kids(joined)
    with folders.held(world.folder):
        folders.withdraw(world.folder, open_keys(world.folder), [stolen], world.now)
    assert await world.rotate()
    assert world.keys.published().find(stolen) is None
    assert world.keys.signer().kid in world.kids()
    refused(joined)
    assert await world.rotate(joined)
    assert stolen not in world.kids(joined)
    world.pass_time(SPREAD)
    assert joined.signer().kid == world.kids(joined)[0]


async def test_what_cannot_be_announced_for_longer_signs_no_token_that_would_outlive_it(world: World) -> None:
    world.pass_time(30 * DAY - MOMENT)
    world.keys.signer()
    world.pass_time(MOMENT)
    refused(world.keys)
    assert await world.rotate()
    world.keys.signer()


async def test_a_point_that_is_none_of_the_curve_is_left_out(world: World) -> None:
    (kid,) = world.kids()
    (key,) = world.announced.keys
    wrong = type(key)(kid="wrong", x=key.x, y=key.x, signs_from=key.signs_from, until=key.until)
    world.announced = KeysAnnounced(9, (key, wrong))
    published = world.keys.published()
    assert published.find(kid) is not None
    assert published.find("wrong") is None
