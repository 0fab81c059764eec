"""The guide on testing a tool server, word by word: its tests are run as its reader runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.pages import ROOT, blocks, section
from tests.support.terminal import environment

GUIDE = ROOT / "docs" / "how-to" / "test-a-tool-server.md"


def test_the_tests_of_the_guide_pass_with_a_real_broker(tmp_path: Path) -> None:
    for block in blocks(section(GUIDE)):
        if block.saved_as:
            (tmp_path / block.saved_as).write_text(block.text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)],
        cwd=tmp_path,
        env={**environment(), "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)]), "PYTEST_ADDOPTS": ""},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
