"""A run: callers call and verifiers verify, while a nemesis breaks things; what all of them record is the history."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AsyncExitStack

from sqlalchemy import select

from broker.sandbox.problem import SandboxProblem
from broker.sandbox.process import end_of, process
from broker.store import schema
from broker.store.database import open_database
from tests.faults.life import ROOT
from tests.history.events import History, Read, Revoke, Terms, Use
from tests.history.nemesis import Nemesis, Step
from tests.history.recording import Reader, recorded
from tests.history.stage import Stage, Watchers

_LOG = "callers.log"
_LIVELY_SECONDS = 300.0
_LOOK_SECONDS = 0.5


async def play(stage: Stage, seed: int, steps: Sequence[Step], verifiers: Sequence[int], *, deaf: bool = False) -> None:
    """Play all steps, and go on until everything works again.

    `verifiers` are the numbers of verifiers in each process of them; `deaf` ones confirm what they do not heed.

    Raises:
        TimeoutError: it does not.
        SandboxProblem: the callers have failed.
    """
    setting = stage.setting(seed)
    async with AsyncExitStack() as stack:
        others = [scene.broker.address for scene in stage.scenes[1:]]
        processes = [
            Watchers(str(number), count, setting, others if number % 2 else (), deaf=deaf)
            for number, count in enumerate(verifiers)
        ]
        for number, watchers in enumerate(processes):
            await watchers.live(stage.port(number % len(stage.scenes)))
            stack.push_async_callback(watchers.die)
        command = [sys.executable, "-m", "tests.history.callers", str(setting), "callers"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        callers = stack.enter_context(process(command, stage.folder / _LOG, environment))
        await _lively(stage, callers, barrier=False)
        await Nemesis(stage, processes).run(steps)
        await _lively(stage, callers, barrier=True)


async def _lively(stage: Stage, callers: subprocess.Popen[str], *, barrier: bool) -> None:
    """Wait until a verifier accepts something, or until a `barrier` returns on what one has accepted from now on."""
    reader, accepted, since = Reader(stage.events), set[str](), time.monotonic()
    async with asyncio.timeout(_LIVELY_SECONDS):
        while True:
            for _name, said in reader.news():
                match said:
                    case Use(accepted=True, began=began, lease=lease) if began > since:
                        accepted.add(lease)
                        if not barrier:
                            return
                    case Revoke(barrier=True, began=began, lease=lease, index=index) if began > since:
                        if index >= 0 and lease in accepted:
                            return
                    case _:
                        pass
            if callers.poll() is not None:
                raise SandboxProblem(end_of(stage.folder / _LOG))
            await asyncio.sleep(_LOOK_SECONDS)


def looked(stage: Stage) -> list[Read]:
    """Read the leases of each task in the database."""
    database, tasks = open_database(stage.url), defaultdict[str, list[str]](list)
    try:
        with database.snapshot() as connection:
            for row in connection.execute(select(schema.leases.c.id, schema.leases.c.task_id)):
                tasks[row.task_id].append(row.id)
    finally:
        database.close()
    now = time.monotonic()
    return [Read(by="reader", began=now, ended=now, task=task, leases=tuple(leases)) for task, leases in tasks.items()]


def history(stage: Stage, terms: Terms) -> History:
    """Return what was recorded, and what the database holds at the end."""
    return History((*recorded(stage.events), *looked(stage)), terms)
