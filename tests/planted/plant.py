"""A planted fault: a text of the broker that is replaced by a wrong one, and the tests that must see it.

Texts and tests are found by what they say, wherever they stand: moving a file changes nothing here. What is not there
exactly once is an error that says so, and is mended by copying what the code says today.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_LEFT_OUT = shutil.ignore_patterns(".*", "build", "node_modules", "*.pyc.*")  # the last: what another test compiles now
_LONGEST_RUN_SECONDS = 900


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree at `root`: the texts of the hand-written modules of the broker, and of the files of tests."""

    root: Path
    modules: Mapping[Path, str]
    tests: Mapping[Path, str]

    @classmethod
    def read(cls, root: Path = ROOT) -> Tree:
        """Read all texts."""
        modules = [file for file in (root / "broker").rglob("*.py") if root / "broker" / "v1" not in file.parents]
        return cls(root, _texts(modules), _texts((root / "tests").rglob("test_*.py")))

    def node(self, test: str) -> str:
        """Return where pytest finds a test function.

        Raises:
            LookupError: its name does not stand exactly once in the tests.
        """
        return f"{self.only(self.tests, f'def {test}(', 'the test').relative_to(self.root)}::{test}"

    def only(self, files: Mapping[Path, str], text: str, what: str) -> Path:
        """Return the one file that holds a text.

        Raises:
            LookupError: it is not there exactly once.
        """
        counts = {file: count for file, whole in files.items() if (count := whole.count(text))}
        if sum(counts.values()) != 1:
            places = {str(file.relative_to(self.root)): count for file, count in counts.items()}
            msg = f"{what} must stand exactly once, and stands at {places or 'no place'}:\n{text}"
            raise LookupError(msg)
        return next(iter(counts))


@dataclass(frozen=True, slots=True)
class Fault:
    """`what` is wrong once `text` reads `instead`; each of `tests`, named by their functions, must fail of it."""

    what: str
    text: str
    instead: str
    tests: tuple[str, ...]

    def file(self, tree: Tree) -> Path:
        """Return the one hand-written module that holds the text.

        Raises:
            LookupError: it is not there exactly once.
        """
        return tree.only(tree.modules, self.text, f"fault `{self.what}`: the text")

    def plant(self, root: Path) -> None:
        """Put the fault into a copy of the tree."""
        file = self.file(Tree.read(root))
        file.write_text(file.read_text().replace(self.text, self.instead))


def copied(folder: Path) -> Path:
    """Return a copy of the tree, with what is compiled already, in a new folder."""
    return Path(shutil.copytree(ROOT, folder, ignore=_LEFT_OUT))


def passes(root: Path, tests: Iterable[str]) -> bool:
    """Report whether tests pass in a tree, in an interpreter of its own.

    Raises:
        RuntimeError: they do not run at all.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "long or not long"]
    tree = Tree.read(root)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    run = subprocess.run(
        [*command, *(tree.node(test) for test in tests)],
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


def _texts(files: Iterable[Path]) -> dict[Path, str]:
    return {file: file.read_text() for file in sorted(files)}
