"""The demo's stories, run as their readers run them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

STORIES = pytest.mark.parametrize(("story", "steps"), [("", 17), ("mcp", 9)])


def demo(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "broker", "demo", *filter(None, arguments)]
    return subprocess.run(command, capture_output=True, timeout=120, check=False)


@STORIES
def test_everything_is_as_told(story: str, steps: int) -> None:
    done = demo(story, "-o", "json")
    told = json.loads(done.stdout)
    assert [step["name"] for step in told["steps"] if not step["ok"]] == []
    assert (done.returncode, told["ok"]) == (0, True)
    assert len(told["steps"]) == steps
    assert all(step["observed"] == step["expected"] and step["ms"] > 0 for step in told["steps"])


@STORIES
def test_it_is_told_to_people_as_a_story(story: str, steps: int) -> None:
    done = demo(story)
    assert done.returncode == 0
    assert "✗" not in done.stdout.decode()
    assert done.stdout.decode().count("✓") == steps
    assert b"eyJ" not in done.stdout + done.stderr  # no token, ever
