"""The demo's MCP story, with clients and servers of the other kinds that there are: it goes the same way."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.cli.demo.mcp_story import SCENES, set_up
from broker.cli.demo.scene import play
from broker.cli.demo.stage import actor
from tests.support import mcp1

Command = Callable[[], list[str]]
TESTS = Path(__file__).parent.parent


def ours(program: str) -> list[str]:
    return [sys.executable, str(TESTS / "mcp" / "stories" / program)]


def with_mcp1(program: str) -> list[str]:
    return mcp1.command(TESTS / "mcp" / "with_mcp1" / program)


@pytest.mark.parametrize(
    ("notes", "agent"),
    [
        (lambda: actor("mcp_notes"), lambda: with_mcp1("agent.py")),
        (lambda: with_mcp1("notes.py"), lambda: actor("mcp_agent")),
        (lambda: with_mcp1("notes.py"), lambda: with_mcp1("agent.py")),
        (lambda: ours("notes_fastmcp.py"), lambda: ours("agent_fastmcp.py")),
    ],
    ids=["client of 1.x", "server of 1.x", "both of 1.x", "FastMCP"],
)
def test_it_goes_the_same_way(tmp_path: Path, notes: Command, agent: Command) -> None:
    with set_up(tmp_path, notes=notes(), agent=agent()) as stage:
        seen = list(play(stage, SCENES))
    assert [(scene.observed, scene.detail) for scene in seen if not scene.ok] == []
    assert len(seen) == len(SCENES)
