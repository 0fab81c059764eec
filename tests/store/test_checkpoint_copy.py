"""The newest checkpoint in a second place: at most once a minute, never back, and whatever that place does."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from broker.audit import checkpoint
from broker.audit.checkpoint import Checkpoint
from broker.audit.note import NoteSigner, verify_note
from broker.jobs import checkpoint_copy
from broker.jobs.checkpoint_copy import FILE, KIND, THREAD, CheckpointCopy
from broker.jobs.effects import EffectRunner, pause
from broker.store import effects, verification
from broker.store.effects import OutsideEffect
from tests.support.world import World, note_signer, opened

MINUTE = timedelta(minutes=1)


class CopyingBroker:
    """A broker that copies its checkpoints to a folder."""

    def __init__(self, world: World, folder: Path, key: NoteSigner, seconds: float = 30) -> None:
        desk = world.desk
        self.world, self.key, self._file = world, key, folder / FILE
        copy = CheckpointCopy(folder, desk.database, key.vkey)
        self._runner = EffectRunner(desk.ledger, desk.database, desk.clock, {KIND: copy.do}, timedelta(seconds=seconds))

    async def do_due(self) -> None:
        await self._runner.do_due(KIND)

    async def problem(self) -> str:
        found = await self.world.desk.database.read(lambda connection: effects.troubles(connection, 1, 10))
        return "".join(trouble.problem for trouble in found)

    def copied(self) -> Checkpoint:
        return checkpoint.parse(verify_note(self._file.read_text(encoding="utf-8"), self.key.vkey))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "second"
    place.mkdir()
    return place


@pytest.fixture
async def broker(database_url: str, folder: Path) -> AsyncIterator[CopyingBroker]:
    key = note_signer()
    async with opened(database_url, note_key=key, asks=[checkpoint_copy.ask]) as world:
        yield CopyingBroker(world, folder, key)


def size(broker: CopyingBroker) -> int:
    return broker.world.follower.position.frontier.size


async def test_a_minute_after_the_first_entry_the_newest_checkpoint_is_there(
    broker: CopyingBroker, folder: Path, database_url: str
) -> None:
    task = await broker.world.task()
    await broker.do_due()
    assert list(folder.iterdir()) == []
    broker.world.clock.move(MINUTE / 2)
    await broker.world.issue(task)
    broker.world.clock.move(MINUTE / 2)
    await broker.do_due()
    assert broker.copied().size == size(broker)
    assert [file.name for file in folder.iterdir()] == [FILE], "nothing half written stays"
    note = (folder / FILE).read_text(encoding="utf-8")
    assert verification.verify(database_url, kept=note).ok


async def test_copies_are_at_most_one_a_minute_and_none_is_missed(broker: CopyingBroker, folder: Path) -> None:
    task = await broker.world.task()
    changed = set()
    for _ in range(30):  # five minutes, in steps of ten seconds
        broker.world.clock.move(MINUTE / 6)
        await broker.world.issue(task)
        await broker.do_due()
        if (folder / FILE).exists():
            changed.add(broker.copied().size)
    assert 4 <= len(changed) <= 5
    broker.world.clock.move(2 * MINUTE)
    await broker.do_due()
    assert broker.copied().size == size(broker), "what came last is copied, though nothing came after it"
    before = (folder / FILE).stat().st_mtime_ns
    broker.world.clock.move(10 * MINUTE)
    await broker.do_due()
    assert (folder / FILE).stat().st_mtime_ns == before, "nothing new, nothing done"


async def test_an_entry_that_comes_while_a_copy_is_made_is_in_the_next(broker: CopyingBroker, folder: Path) -> None:
    task = await broker.world.task()
    copy = CheckpointCopy(folder, broker.world.desk.database, broker.key.vkey)

    async def do(effect: OutsideEffect) -> None:
        await copy.do(effect)
        await broker.world.issue(task)

    desk = broker.world.desk
    broker.world.clock.move(MINUTE)
    due = await EffectRunner(desk.ledger, desk.database, desk.clock, {KIND: do}).do_due(KIND)
    assert due == broker.world.clock() + pause(1)
    assert broker.copied().size == size(broker) - 1
    broker.world.clock.move(pause(1))
    await broker.do_due()
    assert broker.copied().size == size(broker)


async def test_a_place_that_hangs_holds_up_nobody(database_url: str, folder: Path) -> None:
    """A pipe that nobody writes to, over more than a minute of the broker's time: callers are served throughout."""
    key = note_signer()
    async with opened(database_url, note_key=key, asks=[checkpoint_copy.ask]) as world:
        broker = CopyingBroker(world, folder, key, seconds=0.2)
        task = await world.task()
        os.mkfifo(folder / FILE)
        for step in range(4):
            world.clock.move(pause(max(step, 1)))
            copying = asyncio.create_task(broker.do_due())
            issued = await asyncio.gather(*(world.issue(task) for _ in range(10)))
            await world.renew(issued[0])
            await copying
        assert "the write before still hangs" in await broker.problem(), "no second thread waits behind the first"
        await release(folder / FILE)
        (folder / FILE).unlink()
        world.clock.move(pause(4))
        await broker.do_due()
        assert broker.copied().size == size(broker)
        assert await broker.problem() == ""


async def test_a_place_that_is_not_there_is_told_of_and_used_once_it_is(broker: CopyingBroker, folder: Path) -> None:
    await broker.world.task()
    folder.rmdir()
    broker.world.clock.move(MINUTE)
    await broker.do_due()
    assert str(folder / FILE) in await broker.problem()
    folder.mkdir()
    broker.world.clock.move(pause(1))
    await broker.do_due()
    assert broker.copied().size == size(broker)
    assert await broker.problem() == ""


async def test_a_copy_never_goes_back(broker: CopyingBroker, folder: Path) -> None:
    await broker.world.task()
    key = broker.key
    ahead = key.sign(checkpoint.format(Checkpoint(key.name, 1_000, bytes(32))))
    (folder / FILE).write_text(ahead, encoding="utf-8")
    broker.world.clock.move(MINUTE)
    await broker.do_due()
    assert "the database is behind" in await broker.problem()
    assert (folder / FILE).read_text(encoding="utf-8") == ahead


@pytest.mark.parametrize("back", [0, 1, 2])
async def test_a_copy_of_another_history_stays_as_the_proof_of_it(
    broker: CopyingBroker, folder: Path, back: int
) -> None:
    """As after the whole machine was restored, its mark too: the ledger grows beyond the copy, by other entries."""
    task = await broker.world.task()
    await broker.world.issue(task)
    key = broker.key
    forked = key.sign(checkpoint.format(Checkpoint(key.name, size(broker) - back, bytes(32))))
    (folder / FILE).write_text(forked, encoding="utf-8")
    broker.world.clock.move(MINUTE)
    await broker.do_due()
    assert "the history has forked" in await broker.problem()
    assert str(folder / FILE) in await broker.problem()
    assert (folder / FILE).read_text(encoding="utf-8") == forked


async def test_what_others_have_signed_stays(broker: CopyingBroker, folder: Path) -> None:
    await broker.world.task()
    other = note_signer()
    theirs = other.sign(checkpoint.format(Checkpoint(other.name, 0, bytes(32))))
    (folder / FILE).write_text(theirs, encoding="utf-8")
    broker.world.clock.move(MINUTE)
    await broker.do_due()
    assert "is not a checkpoint signed by this broker's key" in await broker.problem()
    assert (folder / FILE).read_text(encoding="utf-8") == theirs


async def test_two_brokers_make_one_copy(database_url: str, folder: Path) -> None:
    key = note_signer()
    asks = [checkpoint_copy.ask]
    async with (
        opened(database_url, note_key=key, asks=asks) as first,
        opened(database_url, note_key=key, asks=asks) as second,
    ):
        task = await first.task()
        brokers = [CopyingBroker(world, folder, key) for world in (first, second)]
        for _ in range(3):
            await asyncio.gather(*(world.issue(task) for world in (first, second)))
        for world in (first, second):
            world.clock.move(MINUTE)
        await asyncio.gather(*(broker.do_due() for broker in brokers))
        assert brokers[0].copied().size == max(size(broker) for broker in brokers)


async def release(pipe: Path) -> None:
    """Let the thread that reads a pipe come to its end, and wait for it."""
    hanging = next(thread for thread in threading.enumerate() if thread.name == THREAD)
    await asyncio.to_thread(pipe.write_bytes, b"nothing")
    await asyncio.to_thread(hanging.join)
