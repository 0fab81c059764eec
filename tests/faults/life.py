"""The life of a broker that may be killed, paused and steered: a real process, always at the same address."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from broker.sandbox.broker import Broker, prepare
from broker.sandbox.process import process, read_line
from tests.support.fakes import eventually

ROOT = Path(__file__).parents[2]
_LOG = "broker.log"


@contextmanager
def living(
    folder: Path,
    port: int = 0,
    *,
    within: Sequence[str] = (),
    workers: int = 0,
    die_at: str = "",
    passes: int = 1,
    code: Path = ROOT,
) -> Iterator[Broker]:
    """Run a broker for the time of a block, `within` a command that starts others; it may be dead when that ends.

    With `workers` it serves in so many processes. `code` is the tree whose broker it is. With `die_at` it kills itself
    when it passes a step (tests/faults/steps.py) for so many times.

    Raises:
        SandboxProblem: it did not start.
    """
    began = time.monotonic()
    options = ["--die-at", die_at, "--passes", str(passes)] if die_at else []
    options += ["--workers", str(workers)] if workers else []
    with starting(folder, "--port", str(port), *options, within=within, code=code) as popen:
        ready = read_line(popen, folder / _LOG)
        try:
            yield Broker(ready["address"], prepare(folder).svids, pid=popen.pid, started_in=time.monotonic() - began)
        finally:
            popen.send_signal(signal.SIGCONT)  # so that it hears that it should stop; nothing, if it is dead


@contextmanager
def starting(
    folder: Path, *options: str, within: Sequence[str] = (), code: Path = ROOT
) -> Iterator[subprocess.Popen[str]]:
    """Run a broker for the time of a block, without waiting until it is ready."""
    command = [*within, sys.executable, "-m", "tests.faults.launch", "--dir", str(prepare(folder).directory), *options]
    where = {"PYTHONPATH": str(code), "PYTHONSAFEPATH": "1"}  # there alone, and not where we stand
    with process(command, folder / _LOG, os.environ | where) as popen:
        yield popen


def settle(folder: Path, url: str) -> None:
    """Write a deployment whose database is at a URL."""
    deployment = prepare(folder)
    told = url.replace("postgresql+psycopg:", "postgresql:")
    configured = deployment.configuration.read_text()
    settled = re.sub(r'(?<=\[database\]\n)url = ".*"', f'url = "{told}"', configured)
    deployment.configuration.write_text(settled)


async def ended(broker: Broker, seconds: float = 60.0) -> None:
    """Wait until a broker's process is gone."""
    assert broker.pid is not None
    pid = broker.pid
    await eventually(lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None, seconds)


async def stopped(task: asyncio.Task[None]) -> None:
    """Stop what a test runs beside itself; raise what it failed with."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def kill(broker: Broker) -> None:
    """`kill -9`; nothing, if it was waited for: its number may be another process's by now."""
    assert broker.pid is not None
    with suppress(ChildProcessError):
        os.waitid(os.P_PID, broker.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # it is our child still
        os.kill(broker.pid, signal.SIGKILL)
