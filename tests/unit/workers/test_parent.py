"""The parent of workers: it replaces who dies or hangs, ends with them, and says why."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAM = """
import asyncio, os, signal, sys, time
from pathlib import Path
from broker import logs
from broker.workers.parent import Parent

logs.configure()
folder = Path(sys.argv[1])
line = Parent(2, (folder / "all serve").touch).run()

def told(line):
    os.write(1, f"{line}\\n".encode())  # in one piece, whoever else writes there, and however print is set up

def is_first():
    try:
        (folder / "first").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True

async def live(heard=lambda _word: None):
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    listening = asyncio.create_task(line.run(heard, over.set))
    line.serves()
    while not (folder / "all serve").exists():
        await asyncio.sleep(0.01)
    told("serves")
    await over.wait()

if line is None:
    told("over")
"""
LIVE = """
else:
    asyncio.run(live())
"""
DIE_AT_ONCE = """
else:
    sys.exit(3)
"""
DIE_LATER = """
else:
    line.serves()
    while not (folder / "all serve").exists():
        time.sleep(0.01)
    sys.exit(3)
"""
HANG_ONCE = """
else:
    if is_first():
        line.serves()
        time.sleep(1_000)
    asyncio.run(live())
"""
TALK = """
else:
    if is_first():
        async def talk():
            living = asyncio.create_task(live())
            while not living.done():
                line.tell("whatever it is: ü".encode())
                await asyncio.sleep(0.05)
        asyncio.run(talk())
    else:
        asyncio.run(live(lambda word: told("heard " + word.decode())))
"""

Started = Callable[[str], "subprocess.Popen[str]"]


@contextmanager
def started(folder: Path, work: str) -> Iterator[subprocess.Popen[str]]:
    """Run a parent whose workers do such work."""
    command = [sys.executable, "-c", PROGRAM + work, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def lines_until(process: subprocess.Popen[str], text: str) -> None:
    """Read what a process says until a line has a text."""
    assert process.stdout is not None
    while text not in (line := process.stdout.readline()):
        assert line, "it has ended"


def ended(process: subprocess.Popen[str], number: int | None = None) -> tuple[int, str, str]:
    """Wait for a process, once it was sent a signal; return its exit status, and what it said last."""
    if number is not None:
        process.send_signal(number)
    said, errors = process.communicate(timeout=120)
    return process.returncode, said, errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_ends_when_its_workers_have(tmp_path: Path, number: int) -> None:
    with started(tmp_path, LIVE) as process:
        lines_until(process, "serves")
        lines_until(process, "serves")
        status, said, errors = ended(process, number)
        assert (status, said, errors) == (0, "over\n", "")


def test_who_cannot_start_is_not_tried_again(tmp_path: Path) -> None:
    with started(tmp_path, DIE_AT_ONCE) as process:
        status, said, errors = ended(process)
        assert (status, said) == (1, "")
        assert "WorkersEnded: a worker could not start: it ended with exit status 3" in errors


def test_workers_that_die_again_and_again_are_given_up(tmp_path: Path) -> None:
    with started(tmp_path, DIE_LATER) as process:
        status, said, errors = ended(process)
        assert (status, said) == (1, "")
        assert "WorkersEnded: workers ended 6 times within a minute, the last of them with exit status 3" in errors


def test_who_hangs_is_killed_and_replaced(tmp_path: Path) -> None:
    with started(tmp_path, HANG_ONCE) as process:
        lines_until(process, "serves")
        lines_until(process, "serves")  # the second is the replacement's
        status, _, errors = ended(process, signal.SIGTERM)
        assert status == 0
        assert "workers.killed" in errors
        assert "by signal 9 (SIGKILL)" in errors


def test_what_a_worker_says_the_others_hear(tmp_path: Path) -> None:
    with started(tmp_path, TALK) as process:
        lines_until(process, "heard whatever it is: ü")
        assert ended(process, signal.SIGTERM)[0] == 0
