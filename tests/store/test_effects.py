"""Effects outside the database: asked for with what wants them, done as often as it takes, and given up loudly."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from structlog.testing import capture_logs

from broker.audit.note import NoteSigner
from broker.jobs.effects import LONGEST_PAUSE, MOST_TRIES, Doer, EffectRunner, pause
from broker.lease.retention import forget_old
from broker.model.errors import invalid
from broker.store import effects, verification
from broker.store.effects import OutsideEffect, Trouble
from broker.store.transaction import Change, Transaction
from tests.support.world import ORIGIN, ManualClock, World, note_signer, opened

KIND = "sample"
MINUTE = timedelta(minutes=1)


class Outside:
    """What is out there: it notes what is done to it."""

    def __init__(self) -> None:
        self.done: list[str] = []

    async def do(self, effect: OutsideEffect) -> None:
        self.done.append(effect.id)


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with opened(database_url) as world:
        yield world


def runner(world: World, do: Doer, seconds: float = 30) -> EffectRunner:
    desk = world.desk
    return EffectRunner(desk.ledger, desk.database, desk.clock, {KIND: do}, timedelta(seconds=seconds))


async def ask(world: World, *ids: str, word: str = "") -> None:
    await world.desk.ledger.write(Change(partial(_ask, ids, word)))


def _ask(ids: tuple[str, ...], word: str, transaction: Transaction) -> None:
    for effect_id in ids:
        payload = {"word": word}
        transaction.effects.add(OutsideEffect(id=effect_id, kind=KIND, payload=payload, due_at=transaction.at))


async def troubles(world: World, least_tried: int = 1) -> list[Trouble]:
    return list(await world.desk.database.read(lambda connection: effects.troubles(connection, least_tried, 10)))


async def test_an_effect_is_done_once_and_forgotten_after_retention(world: World, database_url: str) -> None:
    outside = Outside()
    await ask(world, "a", "b")
    assert await runner(world, outside.do).do_due(KIND) is None
    assert await runner(world, outside.do).do_due(KIND) is None
    assert sorted(outside.done) == ["a", "b"]
    assert not verification.verify(database_url).findings, "no entry speaks of them, and none has to"
    world.clock.move(world.desk.limits.retention + timedelta(seconds=1))
    await forget_old(world.desk)
    await ask(world, "a")
    assert await runner(world, outside.do).do_due(KIND) is None
    assert len(outside.done) == 3


async def test_what_a_refused_change_asks_for_is_not_asked(world: World) -> None:
    def refuse(transaction: Transaction) -> None:
        _ask(("never",), "", transaction)
        msg = "a fault"
        raise RuntimeError(msg)

    with pytest.raises(RuntimeError):
        await world.desk.ledger.write(Change(refuse))
    outside = Outside()
    assert await runner(world, outside.do).do_due(KIND) is None
    assert outside.done == []


async def test_one_that_hangs_holds_up_nobody_and_another_broker_does_it(database_url: str) -> None:
    """It hangs over more than a minute of the brokers' time; meanwhile all that callers ask for is done."""
    clock, key = ManualClock(), note_signer()
    hangs, goes_on, outside = asyncio.Event(), asyncio.Event(), Outside()

    async def hang(effect: OutsideEffect) -> None:
        hangs.set()
        await goes_on.wait()
        await outside.do(effect)

    async with opened(database_url, clock=clock, note_key=key) as first:
        await ask(first, "a")
        doing = asyncio.create_task(runner(first, hang).do_due(KIND))
        await hangs.wait()
        task = await first.task()
        issued = await asyncio.gather(*(first.issue(task) for _ in range(20)))
        clock.move(MINUTE)
        await first.renew(issued[0])
        await first.end(task)
        async with opened(database_url, clock=clock, note_key=key) as second:
            assert await runner(second, outside.do).do_due(KIND) is None
        assert outside.done == ["a"]
        assert not doing.done()
        goes_on.set()
        assert await doing is None
        assert outside.done == ["a", "a"], "done twice, which has to be the same"
        assert await troubles(first) == []


async def test_one_that_takes_too_long_is_left_alone_and_tried_again(world: World) -> None:
    cancelled = asyncio.Event()

    async def hang(_effect: OutsideEffect) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    await ask(world, "a")
    assert await runner(world, hang, 0.05).do_due(KIND) == world.clock() + pause(1)
    assert cancelled.is_set()
    assert await troubles(world) == [Trouble(id="a", tried=1, problem="it was not done within 0.05 s", given_up=False)]
    world.clock.move(pause(1))
    outside = Outside()
    assert await runner(world, outside.do).do_due(KIND) is None
    assert outside.done == ["a"]
    assert await troubles(world) == []


async def test_what_a_place_calls_a_timeout_is_told_as_that_and_not_as_ours(world: World) -> None:
    async def fail(_effect: OutsideEffect) -> None:
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")

    await ask(world, "a")
    await runner(world, fail).do_due(KIND)
    (trouble,) = await troubles(world)
    assert trouble.problem == f"TimeoutError: [Errno {errno.ETIMEDOUT}] Connection timed out"


async def test_one_that_fails_for_ever_is_given_up_loudly_and_the_others_are_done(world: World) -> None:
    tries = 0
    outside = Outside()

    async def fail(effect: OutsideEffect) -> None:
        nonlocal tries
        if effect.id == "bad":
            tries += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        await outside.do(effect)

    await ask(world, "bad")
    with capture_logs() as log:
        for number in range(MOST_TRIES):
            await ask(world, f"good-{number}")
            due = await runner(world, fail).do_due(KIND)
            assert len(outside.done) == number + 1
            assert (due is None) == (number == MOST_TRIES - 1)
            world.clock.move(timedelta() if due is None else due - world.clock())
    assert tries == MOST_TRIES
    (said,) = [line for line in log if line["event"] == "effects.given_up"]
    assert (said["log_level"], said["effect"]) == ("critical", "bad")
    assert "No space left" in said["problem"]
    (trouble,) = await troubles(world, MOST_TRIES + 1)
    assert trouble.given_up
    world.clock.move(LONGEST_PAUSE)
    assert await runner(world, fail).do_due(KIND) is None
    assert tries == MOST_TRIES


async def test_one_that_is_asked_for_again_while_somebody_is_at_it_is_done_again(world: World) -> None:
    words: list[object] = []

    async def do(effect: OutsideEffect) -> None:
        words.append(effect.payload["word"])
        if len(words) == 1:
            await ask(world, "a", word="second")

    await ask(world, "a", word="first")
    due = await runner(world, do).do_due(KIND)
    assert due == world.clock() + pause(1)
    world.clock.move(pause(1))
    assert await runner(world, do).do_due(KIND) is None
    assert words == ["first", "second"]


async def test_two_brokers_share_what_is_to_do(database_url: str) -> None:
    key, outside = note_signer(), Outside()
    ids = [f"{number}" for number in range(30)]
    async with opened(database_url, note_key=key) as first, opened(database_url, note_key=key) as second:
        await ask(first, *ids)
        await asyncio.gather(*(runner(world, outside.do).do_due(KIND) for world in (first, second)))
    assert sorted(outside.done) == sorted(ids), "each is done, and by one of them"


DIES = """
import asyncio, os, signal, sys
from tests.store.test_effects import KIND, ask, runner, same_key
from tests.support.world import opened

async def die(effect):
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    async with opened(sys.argv[1], note_key=same_key()) as world:
        await ask(world, "a")
        await runner(world, die).do_due(KIND)

asyncio.run(main())
"""


def same_key() -> NoteSigner:
    return NoteSigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(32)))


async def test_after_kill_9_another_life_does_it_when_its_turn_comes(database_url: str) -> None:
    dies = partial(subprocess.run, [sys.executable, "-c", DIES, database_url], check=False)
    assert (await asyncio.to_thread(dies)).returncode == -signal.SIGKILL
    outside = Outside()
    async with opened(database_url, note_key=same_key()) as world:
        assert await runner(world, outside.do).do_due(KIND) == world.clock() + pause(1)
        assert outside.done == []
        world.clock.move(pause(1))
        assert await runner(world, outside.do).do_due(KIND) is None
        assert outside.done == ["a"]


async def test_one_that_kills_whoever_tries_is_given_up(world: World) -> None:
    await ask(world, "a")
    for number in range(1, MOST_TRIES + 1):
        claim = partial(effects.claim, kind=KIND, at=world.clock(), pause=pause)
        claimed = await world.desk.ledger.write(Change(lambda now, claim=claim: claim(now.connection)))  # type: ignore[misc]
        assert claimed is not None
        assert claimed.tried == number
        world.clock.move(pause(number))
    outside = Outside()
    assert await runner(world, outside.do).do_due(KIND) is None
    assert outside.done == []
    (trouble,) = await troubles(world)
    assert trouble.given_up


async def test_its_loop_outlives_what_an_effect_raises(world: World) -> None:
    did_good = asyncio.Event()

    async def do(effect: OutsideEffect) -> None:
        if effect.id == "bad":
            raise invalid("word", "is none")
        did_good.set()

    await ask(world, "bad")
    world.clock.move(timedelta(seconds=1))
    await ask(world, "good")
    running = asyncio.create_task(runner(world, do).run())
    await did_good.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    (trouble,) = await troubles(world)
    assert "word: is none" in trouble.problem
