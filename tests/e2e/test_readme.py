"""The README's own integration, word by word, as somebody with two terminals does it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.cli.private import AGENT_VARIABLES
from tests.facade import free_port
from tests.pages import ROOT, Block, blocks, section

ALLOWED = 'b\'done: {"repo": "acme/web"}\''
MARK = "----- next command"
TITLE = "Your first own integration, in ten minutes"


@pytest.fixture
def told(tmp_path: Path) -> list[Block]:
    """What the section says, with ports of our own and an environment at the place where `make` puts it."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    text = section(ROOT / "README.md", TITLE)
    for port in ("8443", "9443"):
        text = text.replace(port, str(free_port()))
    return blocks(text.replace("sleep 5", "sleep 10"))  # on a machine that is busy


@pytest.fixture
def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CREDBROKER_")}
    return {name: value for name, value in kept.items() if name not in AGENT_VARIABLES}


@pytest.fixture
def first_terminal(told: list[Block], tmp_path: Path, environment: dict[str, str]) -> Iterator[None]:
    *before, last = told[0].commands()
    process = subprocess.Popen(
        ["bash", "-ec", "\n".join([*before, f"exec {last}"])],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    with process.stdout:
        assert b'"ready": true' in process.stdout.readline()
        yield
        process.terminate()
        assert process.wait(60) == 0


@pytest.mark.usefixtures("first_terminal")
def test_the_readme_does_what_it_says(told: list[Block], tmp_path: Path, environment: dict[str, str]) -> None:
    commands = []
    for block in told[1:]:
        if block.language == "python":
            (tmp_path / block.saved_as).write_text(block.text)
        else:
            commands += block.commands()
    script = "\n".join(f"echo '{MARK}'\n{command}" for command in commands)
    done = subprocess.run(
        ["bash", "-em", "-c", script],  # with jobs, as in a terminal
        cwd=tmp_path,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    outputs = list(zip(commands, done.stdout.split(MARK)[1:], strict=True))
    own, other, _background = (output for command, output in outputs if command.startswith("credbroker run"))
    assert own.count(ALLOWED) == 1
    assert "breaks the constraint `eq`" in own
    assert "does not grant tool `create_issue`" in own
    assert other.count("in other hands") == 3
    assert ALLOWED not in other
    live, dead = (output for command, output in outputs if command == "sleep 10")
    assert ALLOWED in live
    assert ALLOWED not in dead
    assert "the credential was revoked" in dead
    assert "ok       yes" in done.stdout
