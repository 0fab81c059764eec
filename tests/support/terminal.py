"""Terminals: what a page tells to type is typed, in a shell with jobs, and what each command prints is kept."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from broker.cli.private import AGENT_VARIABLES

_MARK = "----- next command"


def environment() -> dict[str, str]:
    """That of a person who has set nothing of ours."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("CREDBROKER_") and name not in AGENT_VARIABLES
    }


def typed(folder: Path, commands: Sequence[str]) -> list[tuple[str, str]]:
    """Type commands, each when the one before has ended; give each with what was printed from then on.

    The first that fails ends it, and fails the test with all that was printed.
    """
    script = "\n".join(f"echo '{_MARK}'\n{command}" for command in commands)
    done = subprocess.run(
        ["bash", "-em", "-c", script],
        cwd=folder,
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return list(zip(commands, done.stdout.split(_MARK)[1:], strict=True))


@contextmanager
def open_elsewhere(folder: Path, commands: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Type commands in another terminal, where the last goes on until the block ends; its output can be read."""
    *before, last = commands
    process = subprocess.Popen(
        ["bash", "-ec", "\n".join([*before, f"exec {last}"])],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    with process.stdout:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


@contextmanager
def developing(folder: Path, port: int, commands: Sequence[str] = ()) -> Iterator[None]:
    """Run the pages' broker, `credbroker dev --dir ./broker-dev`, until the block ends."""
    usual = [f"{Path(sys.executable).parent / 'credbroker'} dev --dir ./broker-dev --port {port}"]
    with open_elsewhere(folder, commands or usual) as process:
        assert process.stdout is not None
        assert b'"ready": true' in process.stdout.readline()
        yield
