"""Processes that say on stdout, in lines of JSON, how they are, and end when whoever started them has ended."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from broker.sandbox.problem import SandboxProblem

_STOP_SECONDS = 30.0
_TAIL = 2_000
_CHUNK = 4_096


@contextmanager
def process(
    command: Sequence[str], log: Path, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run a process with pipes for the time of a block."""
    with (
        log.open("ab") as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        ) as popen,
    ):
        try:
            yield popen
        finally:
            stop(popen, _STOP_SECONDS)


def read_line(popen: subprocess.Popen[str], log: Path) -> Any:  # noqa: ANN401 (JSON)
    """Wait for a process's next line of JSON, and return it.

    Raises:
        SandboxProblem: it ended without one; the text has the end of its log.
    """
    assert popen.stdout is not None  # noqa: S101 (it is a pipe)
    line = popen.stdout.readline()
    if not line:
        raise SandboxProblem(f"a process has failed:\n{end_of(log)}")
    return json.loads(line)


def stop(popen: subprocess.Popen[Any], seconds: float) -> None:
    """Let a process end by itself, by force if it takes longer."""
    popen.terminate()
    try:
        popen.wait(seconds)
    except subprocess.TimeoutExpired:
        popen.kill()


def end_with_stdin() -> None:
    """Let SIGTERM reach this process when its stdin ends: whoever has started it by `process` has ended, however."""

    def wait() -> None:
        while os.read(descriptor, _CHUNK):  # not by `sys.stdin`, whose lock a thread may not hold at the end
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    descriptor = sys.stdin.fileno()
    threading.Thread(target=wait, name="stdin", daemon=True).start()


def spare_the_collector() -> None:
    """Let this process look for garbage rarely, before it imports much: nothing of that is garbage."""
    gc.set_threshold(50_000, 50, 50)


def end_of(log: Path) -> str:
    """Read what a process wrote last, which says why it has failed."""
    return log.read_text(encoding="utf-8", errors="replace")[-_TAIL:]
