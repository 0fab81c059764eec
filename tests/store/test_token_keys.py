"""Token keys are believed by their entry and never by a row, whichever broker announces them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, update

from broker.audit.effects import Commitment
from broker.keystore import folder as folders
from broker.keystore.folder import create_keys, open_keys, replace_token_keys
from broker.keystore.signing import TokenKeys
from broker.lease.activation import keys_announced
from broker.lease.introspect import introspect
from broker.model.errors import Reason, Refusal
from broker.model.principal import Principal, Role
from broker.store import ledger, migrate, transaction
from broker.store.database import open_database
from broker.store.ledger import LedgerMismatch
from broker.store.schema import ledger_entries
from tests.support.deployment import Deployment
from tests.support.token_keys import ROTATION, token_keys
from tests.support.world import REPO, World, principal

VERIFIER: Principal = replace(principal("spiffe://example.org/verifier", Role.VERIFIERS), resources=frozenset({REPO}))


@dataclass
class Broker:
    """A broker without doors that signs with keys of its own."""

    world: World
    keys: TokenKeys
    folder: Path

    async def rotate(self) -> bool:
        """Do what a broker does every few seconds."""
        await self.keys.keystore.rotate(self.keys.announced())
        changed = await keys_announced(self.world.desk, self.keys)
        await self.keys.keystore.settle(self.keys.announced())
        return changed

    async def follow(self) -> None:
        await self.world.desk.database.read(self.world.follower.catch_up)

    async def accepts(self, token: str) -> bool:
        """Report whether it calls a token active, by the keys that it publishes."""
        await self.follow()
        return await introspect(self.world.desk, VERIFIER, self.keys.published(), token) is not None

    async def issue(self) -> str:
        issued = await self.world.issue(await self.world.task())
        return issued.token


@dataclass
class Time:
    """The brokers' seconds."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def brokers(deployment: Deployment, tmp_path: Path, time: Time, *names: str) -> AsyncIterator[list[Broker]]:
    """Run brokers on one ledger, each with a folder of its own; one after the other they announce their keys."""
    async with AsyncExitStack() as stack:
        running = []
        for name in names:
            world = await stack.enter_async_context(deployment.opened())
            folder = tmp_path / name
            if not folder.exists():
                create_keys(folder, world.clock())
            keys = token_keys(world, folder, time)
            world.desk = replace(world.desk, signer=keys.signer)
            await keys_announced(world.desk, keys)
            running.append(Broker(world, keys, folder))
        yield running


@pytest.fixture
def shared(new_postgresql_url: Callable[[], str]) -> Deployment:
    deployment = Deployment(new_postgresql_url())
    migrate.upgrade(deployment.url)
    return deployment


async def unready(broker: Broker) -> Refusal:
    with pytest.raises(Refusal) as refused:
        await broker.issue()
    assert refused.value.reason is Reason.UNAVAILABLE
    return refused.value


@pytest.mark.postgres
async def test_tokens_of_either_broker_are_good_at_both_from_the_first_on(shared: Deployment, tmp_path: Path) -> None:
    time = Time()
    async with brokers(shared, tmp_path, time, "here", "there") as (here, there):
        assert await there.accepts(await here.issue()), "the first broker of a ledger signs at once"
        assert (await unready(there)).hints.retry_seconds == ROTATION.spread.total_seconds()
        time.now += ROTATION.spread.total_seconds()
        assert await here.accepts(await there.issue())
    shared.clock.move(ROTATION.spread)
    async with brokers(shared, tmp_path, time, "there", "here") as (there, here):
        assert await here.accepts(await there.issue()), "a broker that starts again need not wait"
        assert await there.accepts(await here.issue())
    assert shared.problems() == []


@pytest.mark.postgres
async def test_rotation_on_one_broker_reaches_the_other_before_the_new_key_signs(
    shared: Deployment, tmp_path: Path
) -> None:
    time = Time()
    async with brokers(shared, tmp_path, time, "here", "there") as (here, there):
        before = await here.issue()
        with folders.held(here.folder):
            folders.publish_next(here.folder, open_keys(here.folder), shared.clock() + timedelta(seconds=1))
        assert await here.rotate()
        shared.clock.move(ROTATION.spread)
        old = here.keys.signer().kid
        time.now += ROTATION.spread.total_seconds()
        assert here.keys.signer().kid != old
        assert await there.accepts(await here.issue())
        assert await there.accepts(before)
        shared.clock.move(ROTATION.kept + timedelta(microseconds=1))
        assert await here.rotate()
        await there.follow()
        assert there.keys.published().find(old) is None, "its last token is dead"
    assert shared.problems() == []


@pytest.mark.postgres
async def test_keys_replaced_on_one_broker_are_refused_at_the_other(shared: Deployment, tmp_path: Path) -> None:
    time = Time()
    async with brokers(shared, tmp_path, time, "here", "there") as (here, there):
        stolen = await here.issue()
        assert await there.accepts(stolen)
        replace_token_keys(here.folder, shared.clock())
        assert await here.rotate()
        assert not await there.accepts(stolen)
        assert not await here.accepts(stolen)
        await unready(here)
        time.now += ROTATION.spread.total_seconds()
        assert await there.accepts(await here.issue())
        assert await here.accepts(await there.issue())
    assert shared.problems() == []


@pytest.mark.postgres
async def test_brokers_that_share_a_folder_as_they_used_to_announce_its_keys_once(
    shared: Deployment, tmp_path: Path
) -> None:
    async with brokers(shared, tmp_path, Time(), "keys", "keys") as (here, there):
        await here.follow()
        assert here.keys.announced() == there.keys.announced()
        assert await there.accepts(await here.issue())
        assert await here.accepts(await there.issue())
        assert [await broker.rotate() for broker in (here, there)] == [False, False]


async def entries_of_keys(world: World) -> list[int]:
    def find(connection: Connection) -> list[int]:
        return [entry.index for entry in ledger.entries(connection) if entry.kind == "keys.rotated"]

    return await world.desk.database.read(find)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a broker commit to what is in force at each change."""
    monkeypatch.setattr(transaction, "_COMMIT_EVERY", 1)


@pytest.mark.usefixtures("often")
async def test_a_start_takes_the_announced_keys_from_the_entry_that_the_commitment_names(
    deployment: Deployment, tmp_path: Path
) -> None:
    async with brokers(deployment, tmp_path, Time(), "keys") as (broker,):
        await broker.issue()
        announced = broker.keys.announced()
    async with deployment.opened() as world:
        assert world.follower.in_force.announced == announced
    assert deployment.problems() == []


@pytest.mark.usefixtures("often")
async def test_an_announcement_that_was_altered_is_not_believed(deployment: Deployment, tmp_path: Path) -> None:
    async with brokers(deployment, tmp_path, Time(), "keys") as (broker,):
        token = await broker.issue()
        (index,) = await entries_of_keys(broker.world)
        (key,) = broker.keys.announced().keys
        body = (await broker.world.desk.database.read(lambda c: ledger.fetch(c, [index])))[index].decode()
        another = json.dumps(key.x[::-1])[1:-1]
        _alter(deployment, index, body.replace(key.x, another).encode())
        assert await broker.accepts(token), "a broker that runs goes by what it has followed"
    with pytest.raises(LedgerMismatch, match="are not those that were signed"):
        async with deployment.opened():
            pass
    assert deployment.problems() != []
    _alter(deployment, index, body.encode())
    assert deployment.problems() == []


async def test_an_entry_that_nobody_has_signed_announces_nothing(deployment: Deployment, tmp_path: Path) -> None:
    async with brokers(deployment, tmp_path, Time(), "keys") as (broker,):
        await broker.follow()
        announced = broker.keys.announced()
        deployment.sql(
            'INSERT INTO ledger_entries ("index", tenant, task_id, kind, body, leaf_hash) '
            'SELECT "index" + 100, tenant, task_id, kind, body, leaf_hash FROM ledger_entries '
            "WHERE kind = 'keys.rotated'"
        )
        await broker.follow()
        assert broker.keys.announced() == announced


@pytest.mark.usefixtures("often")
async def test_beside_brokers_of_the_version_before_the_announced_keys_are_kept(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with brokers(deployment, tmp_path, Time(), "keys") as (broker,):
        token = await broker.issue()
        announced = broker.keys.announced()
    facts = Commitment.facts
    with monkeypatch.context() as before:
        before.setattr(Commitment, "facts", lambda self: facts(replace(self, keys=None)))
        async with deployment.opened() as world:
            await world.task()
    assert deployment.problems() == []
    async with brokers(deployment, tmp_path, Time(), "keys") as (broker,):
        assert broker.keys.announced() == announced, "all entries were read once"
        assert broker.world.follower.in_force.committed_in_part
        assert await broker.accepts(token)
        await broker.issue()
        assert not broker.world.follower.in_force.committed_in_part, "the next change commits to all of it"
    assert deployment.problems() == []


def _alter(deployment: Deployment, index: int, body: bytes) -> None:
    database = open_database(deployment.url)
    with database.transaction() as connection:
        connection.execute(update(ledger_entries).where(ledger_entries.c.index == index).values(body=body))
    database.close()
