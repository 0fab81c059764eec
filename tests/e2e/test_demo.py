"""The demo, run as its readers run it."""

import json
import subprocess
import sys


def test_everything_is_as_told() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "broker", "demo", "-o", "json"], capture_output=True, timeout=120, check=False
    )
    story = json.loads(done.stdout)
    assert [step["name"] for step in story["steps"] if not step["ok"]] == []
    assert (done.returncode, story["ok"]) == (0, True)
    assert len(story["steps"]) == 17
    assert all(step["observed"] == step["expected"] and step["ms"] > 0 for step in story["steps"])


def test_it_is_told_to_people_as_a_story() -> None:
    done = subprocess.run([sys.executable, "-m", "broker", "demo"], capture_output=True, timeout=120, check=False)
    assert done.returncode == 0
    assert "✗" not in done.stdout.decode()
    assert done.stdout.decode().count("✓") == 17
    assert b"eyJ" not in done.stdout + done.stderr  # no token, ever
