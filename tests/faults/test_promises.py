"""Every fault, against every promise: the dead stay dead, what was said is kept, health is true, and it passes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from broker.model.errors import Reason
from broker.sdk.client.client import Client
from broker.store.verification import verify
from tests.faults.checks import check_database, check_lost_answers, check_next_life, check_one_history
from tests.faults.history import History
from tests.faults.life import stopped
from tests.faults.load import Load
from tests.faults.scene import Scene, on_file, on_server, on_small_disk
from tests.faults.table import FAULTS, Fault, On
from tests.faults.witness import Service, Witness, newcomer_accepts, watched
from tests.support.fakes import eventually

NOTICED_SECONDS = 15  # until health says that a broker cannot serve: all time limits together, on a busy machine
RECOVERY_SECONDS = 20  # and until it serves again when it can
STOP_SECONDS = 30


@pytest.fixture
def scene(fault: Fault, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Scene]:
    if fault.on is On.SERVER:
        make: Callable[[], str] = request.getfixturevalue("new_postgresql_url")
        played = on_server(tmp_path, make())
    else:
        played = (on_file if fault.on is On.FILE else on_small_disk)(tmp_path)
    with played as opened:
        yield opened


def _row(fault: Fault) -> object:
    marks = [pytest.mark.slow] + [pytest.mark.long] * (not fault.quick)
    return pytest.param(fault, id=fault.name, marks=marks + [pytest.mark.postgres] * (fault.on is On.SERVER))


@asynccontextmanager
async def _busy(scene: Scene, service: Service) -> AsyncIterator[Witness]:
    """Let everybody call a broker, and everybody watch it, for the time of a block."""
    history = History()
    async with Client(scene.broker.address, scene.broker.svids / "orchestrator") as orchestrator:
        task = await orchestrator.create_task(scene.broker.declaration())
    async with watched(scene.broker, history) as witness:
        load = Load(scene.broker, history, scene.elsewhere or scene.broker, agents=4, pace=0.05)
        running = [
            asyncio.create_task(work)
            for work in (
                load.run(),
                witness.run(),
                service.ask(scene.broker, task.id),
                service.ask_health(scene.broker),
            )
        ]
        try:
            await eventually(lambda: len(history.dead) > 10 and service.is_healthy(0), 60)
            yield witness
        finally:
            for task_running in running:
                await stopped(task_running)


@pytest.mark.parametrize("fault", [_row(fault) for fault in FAULTS])
async def test_a_broker_keeps_its_promises_while_something_is_broken_and_afterwards(fault: Fault, scene: Scene) -> None:
    service, broken = Service(), []
    async with _busy(scene, service) as witness:
        async with fault.inflicted(scene):
            began = time.monotonic()
            if fault.serves is False and not await _comes(lambda: service.is_unwell(began), NOTICED_SECONDS):
                broken.append("health says SERVING")
            noticed = time.monotonic()
            await asyncio.sleep(fault.seconds)
            if fault.takes_away and _gives_room(scene) and not await service.takes_away(scene.broker):
                broken.append("nothing can be revoked")
            over = time.monotonic()
            newcomers_late = await newcomer_accepts(scene.broker, witness.history)
        if not await _comes(lambda: service.issues(over), RECOVERY_SECONDS):
            broken.append("it does not recover")
        if not await _comes(lambda: service.is_healthy(over), RECOVERY_SECONDS):
            broken.append("health says NOT_SERVING afterwards")
        await asyncio.sleep(1)
    broken += [f"the dead live: {late}" for late in (witness.accepted_too_late(), newcomers_late) if late]
    if fault.serves is not None and service.said(noticed, over) != {fault.serves}:
        broken.append("health does not tell the truth all the time")
    if fault.serves is not None and fault.serves not in service.did(noticed, over):
        broken.append(f"the row is wrong: calls succeeded: {service.did(noticed, over)}")
    broken += await _word_broken(scene, witness.history, fault.strange)
    assert not broken


def _gives_room(scene: Scene) -> bool:
    return scene.disk is not None and scene.disk.gives_room


async def _comes(condition: Callable[[], bool], seconds: float) -> bool:
    """Report whether a condition comes to hold in time."""
    try:
        await eventually(condition, seconds)
    except TimeoutError:
        return False
    return True


async def _word_broken(scene: Scene, history: History, strange: frozenset[Reason]) -> list[str]:
    """Stop the broker, look into its database, and hold its next life to what this one has said."""
    before = time.monotonic()
    await asyncio.to_thread(scene.stop)
    broken = ["it does not stop"] * (time.monotonic() - before > STOP_SECONDS)
    url = scene.readable()
    vkey = verify(url).vkey
    check_database(url, vkey, history)
    check_one_history(url, vkey, history.notes)
    await asyncio.to_thread(scene.live)
    await check_next_life(scene.broker, history, strange)
    await check_lost_answers(scene.broker, scene.readable, history)
    return broken
