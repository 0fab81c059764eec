"""A planted fault: a text of the broker that is replaced by a wrong one, and the tests that must see it.

Texts and tests are found by what they say, wherever they stand: moving a file changes nothing here. What is not there
exactly once is an error that says so, and is mended by copying what the code says today.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_LEFT_OUT = shutil.ignore_patterns(".*", "build", "node_modules", "*.pyc.*")  # the last: what another test compiles now
_LONGEST_RUN_SECONDS = 900


@dataclass(frozen=True, slots=True)
class Fault:
    """`what` is wrong once `text` reads `instead`; each of `tests`, named by their functions, must fail of it."""

    what: str
    text: str
    instead: str
    tests: tuple[str, ...]

    def file(self, root: Path = ROOT) -> Path:
        """Return the one hand-written module under `root` that holds the text.

        Raises:
            LookupError: it is not there exactly once.
        """
        return _only(root, (root / "broker").rglob("*.py"), self.text, f"fault `{self.what}`: the text")

    def plant(self, root: Path) -> None:
        """Put the fault into a copy of the tree."""
        file = self.file(root)
        file.write_text(file.read_text().replace(self.text, self.instead))


def copied(folder: Path) -> Path:
    """Return a copy of the tree, with what is compiled already, in a new folder."""
    return Path(shutil.copytree(ROOT, folder, ignore=_LEFT_OUT))


def node(test: str, root: Path = ROOT) -> str:
    """Return where pytest finds a test function.

    Raises:
        LookupError: its name does not stand exactly once in the tests.
    """
    file = _only(root, (root / "tests").rglob("test_*.py"), f"def {test}(", "the test")
    return f"{file.relative_to(root)}::{test}"


def passes(root: Path, tests: Iterable[str]) -> bool:
    """Report whether tests pass in a tree, in an interpreter of its own.

    Raises:
        RuntimeError: they do not run at all.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "long or not long"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    run = subprocess.run(
        [*command, *(node(test, root) for test in tests)],
        cwd=root,
        env=environment | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
        timeout=_LONGEST_RUN_SECONDS,
    )
    if run.returncode not in (0, 1):
        raise RuntimeError(run.stdout[-5_000:] + run.stderr[-5_000:])
    return run.returncode == 0


def _only(root: Path, files: Iterable[Path], text: str, what: str) -> Path:
    counts = {
        file: file.read_text().count(text) for file in sorted(files) if root / "broker" / "v1" not in file.parents
    }
    places = {str(file.relative_to(root)): count for file, count in counts.items() if count}
    if sum(places.values()) != 1:
        msg = f"{what} must stand exactly once, and stands at {places or 'no place'}:\n{text}"
        raise LookupError(msg)
    return next(file for file, count in counts.items() if count)
