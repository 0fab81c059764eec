"""The README's own integration, word by word, as somebody with two terminals does it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from broker.sandbox.ports import free_port
from tests.support.pages import ROOT, Block, blocks, section
from tests.support.terminal import developing, typed

ALLOWED = 'b\'done: {"repo": "acme/web"}\''
TITLE = "Your first own integration, in ten minutes"


@pytest.fixture
def told(tmp_path: Path) -> list[Block]:
    """What the section says, with ports of our own and an environment at the place where `make` puts it."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    text = section(ROOT / "README.md", TITLE).replace("sleep 5", "sleep 10")  # on a machine that is busy
    for port in ("8443", "9443"):
        text = text.replace(port, str(free_port()))
    return blocks(text)


def test_the_readme_does_what_it_says(told: list[Block], tmp_path: Path) -> None:
    commands = []
    for block in told[1:]:
        if block.language == "python":
            (tmp_path / block.saved_as).write_text(block.text)
        else:
            commands += block.commands()
    with developing(tmp_path, 0, told[0].commands()):
        printed = typed(tmp_path, commands)
    own, other, _background = (output for command, output in printed if command.startswith("credbroker run"))
    assert own.count(ALLOWED) == 1
    assert "breaks the constraint `eq`" in own
    assert "does not grant tool `create_issue`" in own
    assert other.count("in other hands") == 3
    assert ALLOWED not in other
    live, dead = (output for command, output in printed if command == "sleep 10")
    assert ALLOWED in live
    assert ALLOWED not in dead
    assert "the credential was revoked" in dead
    assert "ok       yes" in printed[-1][1]
