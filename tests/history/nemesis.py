"""Who breaks things: a plan that a seed decides, and what is done at each of its steps.

Each thing that can be broken has a timeline of its own, in which it is broken and whole by turns; so several things are
broken at a time, and no two faults of one thing meet.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from broker.sandbox.problem import SandboxProblem
from tests.faults.scene import Scene
from tests.faults.table import FAULTS
from tests.history.lot import Lot
from tests.history.stage import Stage, Watchers
from tests.support.workers import workers_of

_OF_SCENES = {fault.name: fault.inflicted for fault in FAULTS}
_WHOLE_SECONDS = (1.0, 8.0)
_SHORT_SECONDS, _LONG_SECONDS = (0.3, 4.0), (4.0, 14.0)
_LONG = 4  # of so many faults, one is long
_STARTS_SECONDS, _RETRY_SECONDS = 300.0, 0.5
_ENDS_SESSIONS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)

OF_BROKERS_ON_SERVER = (
    *("killed", "killed", "paused beside another", "paused beside another"),
    *("wire cut", "wire blocked", "wire cut one way", "wire slow", "connections dead", "answers to commits lost"),
    *("sessions ended", "server crashed", "head held", "clock ahead", "clock behind"),
)
OF_BROKERS_ON_FILE = ("killed", "killed", "paused", "paused", "file locked", "clock ahead", "clock behind")
OF_WORKERS = (*OF_BROKERS_ON_FILE, *("worker killed", "worker killed", "worker paused", "worker paused"))
OF_VERIFIERS = ("restarted", "restarted elsewhere", "paused", "cut off", "not answered")


@dataclass(frozen=True, slots=True)
class Step:
    """A fault of a broker, or of a process of verifiers, that lasts for so many seconds; at `at` since the start."""

    at: float
    seconds: float
    whose: str
    number: int
    fault: str

    def __str__(self) -> str:
        """Read as a line of a plan."""
        return f"{self.at:6.1f} s, for {self.seconds:4.1f} s: {self.whose} {self.number} {self.fault}"


def planned(
    seed: int, seconds: float, brokers: int, of_brokers: Sequence[str], verifiers: int, of_verifiers: Sequence[str]
) -> list[Step]:
    """Return the steps of a plan of so many seconds, in their order."""
    things = [("broker", number, of_brokers) for number in range(brokers)]
    things += [("verifiers", number, of_verifiers) for number in range(verifiers)]
    steps = []
    for whose, number, faults in things:
        lot = Lot("plan", seed, whose, number)
        at = lot.between(*_WHOLE_SECONDS)
        while at < seconds:
            lasts = lot.between(*(_LONG_SECONDS if lot.one_in(_LONG) else _SHORT_SECONDS))
            steps.append(Step(at, min(lasts, seconds - at), whose, number, lot.pick(faults)))
            at += lasts + lot.between(*_WHOLE_SECONDS)
    return sorted(steps, key=lambda step: step.at)


@dataclass(frozen=True, slots=True)
class Nemesis:
    """Does what a plan says to a stage and its verifiers."""

    stage: Stage
    verifiers: Sequence[Watchers]

    async def run(self, steps: Sequence[Step]) -> None:
        """Take all steps, and leave everything whole."""
        start = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for whose, number in {(step.whose, step.number) for step in steps}:
                own = [step for step in steps if (step.whose, step.number) == (whose, number)]
                group.create_task(self._take(own, start))

    async def _take(self, steps: Sequence[Step], start: float) -> None:
        for step in steps:
            await asyncio.sleep(start + step.at - time.monotonic())
            with suppress(DBAPIError):  # another fault has ended the session that was part of this one
                async with self._inflicted(step):
                    await asyncio.sleep(step.seconds)

    @asynccontextmanager
    async def _inflicted(self, step: Step) -> AsyncIterator[None]:
        if step.whose == "broker":
            scene = self.stage.scenes[step.number]
            block = _OF_BROKER[step.fault](scene) if step.fault in _OF_BROKER else _OF_SCENES[step.fault](scene)
        else:
            block = self._of_verifiers(self.verifiers[step.number], step)
        async with block:
            yield

    @asynccontextmanager
    async def _of_verifiers(self, verifiers: Watchers, step: Step) -> AsyncIterator[None]:
        match step.fault:
            case "restarted" | "restarted elsewhere":
                here = verifiers.port
                await verifiers.die()
                yield
                others = [self.stage.port(number) for number in range(len(self.stage.scenes))]
                there = Lot(step.at).pick([port for port in others if port != here] or [here])
                await verifiers.live(there if step.fault == "restarted elsewhere" else here)
            case "paused":
                verifiers.popen.send_signal(signal.SIGSTOP)
                yield
                verifiers.popen.send_signal(signal.SIGCONT)
            case "cut off":
                verifiers.wire.cut()
                yield
                verifiers.wire.mend()
            case _:
                verifiers.wire.lose_answers()
                yield
                verifiers.wire.mend()


@asynccontextmanager
async def _killed(scene: Scene) -> AsyncIterator[None]:
    """Kill a broker, and start it until it lives: its database may be away just then."""
    await asyncio.to_thread(scene.die)
    yield
    async with asyncio.timeout(_STARTS_SECONDS):
        while True:
            try:
                await asyncio.to_thread(scene.live)
            except SandboxProblem:
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return


@asynccontextmanager
async def _cut_one_way(scene: Scene) -> AsyncIterator[None]:
    """What the broker says reaches its database, and no answer comes back."""
    scene.wire.hold_answers()
    yield
    scene.wire.heal()


@asynccontextmanager
async def _sessions_ended(scene: Scene) -> AsyncIterator[None]:
    """An administrator ends every session of the database."""
    await asyncio.to_thread(scene.sql, _ENDS_SESSIONS)
    yield


@asynccontextmanager
async def _server_crashed(scene: Scene) -> AsyncIterator[None]:
    """Kill a process of the database's server: it ends all others, and begins anew from its log."""
    await asyncio.to_thread(_kill_session, scene.url)
    yield


def _kill_session(url: str) -> None:
    engine = create_engine(url)
    with suppress(DBAPIError), engine.connect() as connection:  # it cannot be closed in order
        os.kill(connection.execute(text("SELECT pg_backend_pid()")).scalar_one(), signal.SIGKILL)
    engine.dispose()


@asynccontextmanager
async def _worker_killed(scene: Scene) -> AsyncIterator[None]:
    """Kill one of several processes; the parent puts another in its place."""
    _signal_a_worker(scene, signal.SIGKILL)
    yield


@asynccontextmanager
async def _worker_paused(scene: Scene) -> AsyncIterator[None]:
    """Stop one of several processes; the parent kills it, if that lasts."""
    pid = _signal_a_worker(scene, signal.SIGSTOP)
    yield
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def _signal_a_worker(scene: Scene, number: signal.Signals) -> int:
    pid = min(workers_of(scene.broker))
    os.kill(pid, number)
    return pid


_OF_BROKER = {
    "worker killed": _worker_killed,
    "worker paused": _worker_paused,
    "killed": _killed,
    "wire cut one way": _cut_one_way,
    "sessions ended": _sessions_ended,
    "server crashed": _server_crashed,
}
