"""kill -9 under load, at random instants and at each step: what was acknowledged holds, and nobody has more."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from broker.sandbox.broker import Broker
from broker.sandbox.ports import free_port
from broker.store.verification import verify
from tests.faults.checks import check_database, check_lost_answers, check_next_life, check_one_history
from tests.faults.history import History
from tests.faults.life import ended, kill, living, settle, starting, stopped
from tests.faults.load import Load
from tests.faults.steps import STEPS

LONG = pytest.mark.long
POSTGRESQL = pytest.mark.postgres
MOST_PASSES = 30


async def at_any_time(broker: Broker) -> None:
    """Kill a broker at a random instant."""
    await asyncio.sleep(0.15 + secrets.randbelow(800) / 1_000)
    kill(broker)


async def alive(broker: Broker, url: str, before: History) -> None:
    """A broker that has started again by itself keeps the word of the one before."""
    await check_next_life(broker, before)
    await check_lost_answers(broker, lambda: url, before)


async def live(broker: Broker, death: Callable[[Broker], Awaitable[None]]) -> History:
    """Put a broker under load until its death; return what it has acknowledged."""
    history = History()
    load = asyncio.create_task(Load(broker, history, broker).run())
    await death(broker)
    await stopped(load)
    return history


def database(kind: str, folder: Path, request: pytest.FixtureRequest) -> str:
    if kind == "sqlite":
        return f"sqlite:///{folder / 'broker.db'}"
    make: Callable[[], str] = request.getfixturevalue("new_postgresql_url")
    return make()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "kills"),
    [
        pytest.param("sqlite", 8, id="sqlite"),
        pytest.param("postgresql", 4, id="postgresql", marks=POSTGRESQL),
        *(pytest.param("sqlite", 25, id=f"sqlite-{series}", marks=LONG) for series in range(4)),
        *(pytest.param("postgresql", 25, id=f"postgresql-{series}", marks=[LONG, POSTGRESQL]) for series in range(2)),
    ],
)
async def test_a_broker_killed_under_load_keeps_its_word(
    kind: str, kills: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url, port = database(kind, tmp_path, request), free_port()
    settle(tmp_path, url)
    notes: set[str] = set()
    history, acknowledged = History(), 0
    for _ in range(kills):
        with living(tmp_path, port) as broker:
            await alive(broker, url, history)
            history = await live(broker, at_any_time)
        check_database(url, verify(url).vkey, history)
        notes |= history.notes
        acknowledged += len(history.tokens)
    with living(tmp_path, port) as broker:
        await alive(broker, url, history)
    assert acknowledged > kills, "the load was no load"
    check_one_history(url, verify(url).vkey, notes)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=[LONG, POSTGRESQL])])
@pytest.mark.parametrize(
    "step", [step if step == "after the commit" else pytest.param(step, marks=LONG) for step in STEPS]
)
async def test_a_broker_that_dies_at_a_step_needs_no_hand(
    kind: str, step: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url, port = database(kind, tmp_path, request), free_port()
    settle(tmp_path, url)
    for passes in (1, 1 + secrets.randbelow(MOST_PASSES)):
        with living(tmp_path, port, die_at=step, passes=passes) as broker:
            history = await live(broker, ended)
        vkey = verify(url).vkey
        check_database(url, vkey, history)
        with living(tmp_path, port) as broker:
            await alive(broker, url, history)
        check_one_history(url, vkey, history.notes)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [pytest.param("sqlite", marks=LONG), pytest.param("postgresql", marks=[LONG, POSTGRESQL])]
)
async def test_a_broker_that_is_killed_in_its_first_start_starts_again(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    settle(tmp_path / "measured", f"sqlite:///{tmp_path / 'measured' / 'broker.db'}")
    with living(tmp_path / "measured") as broker:
        seconds = broker.started_in
    url = database(kind, tmp_path, request)
    settle(tmp_path / "killed", url)
    for tenth in range(3, 12):
        with starting(tmp_path / "killed") as popen:
            await asyncio.sleep(seconds * tenth / 10)
            popen.kill()
    with living(tmp_path / "killed") as broker:
        assert await asyncio.to_thread(broker.issue, 1)
    assert verify(url).ok


def test_each_step_is_still_there() -> None:
    assert all(callable(getattr(step.owner, step.function, None)) for step in STEPS.values())
