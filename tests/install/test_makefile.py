"""`make` installs what the locks say, whatever was released since, with the pip that Python brought."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.install.index import Index, served

HERE = Path(__file__).parents[2]
ENVIRONMENTS = pytest.mark.parametrize(
    ("environment", "lock_name", "python"),
    [(".venv", "requirements.lock", sys.executable), (".venv-mcp1", "requirements-mcp1.lock", "./python")],
    ids=[".venv", ".venv-mcp1"],
)
PYPROJECT = """
[build-system]
requires = ["not-to-be-fetched"]
build-backend = "backend"
backend-path = ["."]

[project]
name = "project"
version = "1"
"""
BACKEND = """
import zipfile

def build_editable(folder, settings=None, metadata=None):
    info = "project-1.dist-info"
    metadata = "Metadata-Version: 2.1\\nName: project\\nVersion: 1\\nRequires-Dist: outer\\n"
    with zipfile.ZipFile(f"{folder}/project-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return "project-1-py3-none-any.whl"
"""


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    folder = tmp_path / "index"
    folder.mkdir()
    with served(folder) as running:
        yield running


@pytest.fixture(scope="module")
def copying_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that copies the environments which it is told to make: bringing pip takes seconds each time."""
    folder = tmp_path_factory.mktemp("python")
    subprocess.run([sys.executable, "-m", "venv", folder / "made"], check=True)
    script = folder / "python"
    script.write_text(
        "#!/bin/sh\n"
        f'[ "$1 $2 $3" != "-m venv --clear" ] || {{ rm -rf "$4" && exec cp -R {folder}/made "$4"; }}\n'
        f'exec {sys.executable} "$@"\n'
    )
    script.chmod(0o700)
    return script


@pytest.fixture
def project(tmp_path: Path, copying_python: Path) -> Path:
    """A checkout with our Makefile and a project that needs nothing to be built."""
    folder = tmp_path / "a checkout"
    folder.mkdir()
    shutil.copy(HERE / "Makefile", folder)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "backend.py").write_text(BACKEND)
    (folder / "python").symlink_to(copying_python)
    return folder


def lock(index: Index) -> list[str]:
    """The lines of a lock, beside a newer release of everything in it."""
    lines = [
        index.release("outer", "1", "inner[mail]>=1"),
        index.release("inner", "1", "letters>=1", extra="mail"),
        index.release("letters", "1", "paper>=1"),
        index.release("paper", "1"),
        *(index.release(f"more{number}", "1") for number in range(20)),
        "elsewhere==1 ; sys_platform == 'win32' \\\n    --hash=sha256:" + "0" * 64 + "\n",
    ]
    index.release("outer", "2", "inner[mail]>=2")
    index.release("inner", "2", "letters>=2", extra="mail")
    index.release("letters", "2", "paper>=2")
    index.release("paper", "2")
    return lines


def make(project: Path, index: Index, target: str, python: str = "./python") -> subprocess.Popen[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(project),
        "PIP_INDEX_URL": index.url,
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_CACHE_DIR": str(project / "cache"),
    }
    return subprocess.Popen(
        ["make", target, f"PYTHON={python}"],
        cwd=project,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def installed(environment: Path) -> set[str]:
    return {found.name for found in environment.glob("lib/python*/site-packages/*.dist-info")}


@ENVIRONMENTS
def test_what_the_lock_says_is_installed_whatever_was_released_since(
    environment: str, lock_name: str, python: str, project: Path, index: Index
) -> None:
    (project / lock_name).write_text("".join(lock(index)))
    running = make(project, index, f"{environment}/ready", python)
    output, errors = running.communicate()
    assert running.returncode == 0, errors
    assert (project / environment / "ready").exists()
    there = installed(project / environment)
    assert {f"{name}-1.dist-info" for name in ("outer", "inner", "letters", "paper", "more19")} <= there
    assert not {f"{name}-2.dist-info" for name in ("outer", "inner", "letters", "paper")} & there
    assert "not-to-be-fetched" not in "".join(index.asked)
    assert "10 of 25" in output
    assert "20 of 25" in output
    assert len(output.splitlines()) < 12


def test_a_lock_that_does_not_fit_together_is_told_with_the_package(project: Path, index: Index) -> None:
    lines = index.release("outer", "1", "inner>=2") + index.release("inner", "1")
    (project / "requirements-mcp1.lock").write_text(lines)
    running = make(project, index, ".venv-mcp1/ready")
    output, errors = running.communicate()
    assert running.returncode != 0
    assert "outer 1 has requirement inner>=2, but you have inner 1" in output
    assert "requirements-mcp1.lock does not fit together" in errors
    assert "make lock" in errors
    assert not (project / ".venv-mcp1" / "ready").exists()


def test_a_project_that_needs_more_than_its_lock_is_told(project: Path, index: Index) -> None:
    (project / "requirements.lock").write_text(index.release("inner", "1"))
    running = make(project, index, ".venv/ready")
    output, errors = running.communicate()
    assert running.returncode != 0
    assert "project 1 requires outer, which is not installed" in output
    assert "requirements.lock does not fit together" in errors
    assert not (project / ".venv" / "ready").exists()


def test_an_interrupted_installation_is_not_ready_and_made_again(project: Path, index: Index) -> None:
    (project / "requirements.lock").write_text("".join(lock(index)))
    index.holds_back = "more10-1"
    running = make(project, index, ".venv/ready")
    assert index.held.wait(120)
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    assert not (project / ".venv" / "ready").exists()
    index.go_on.set()
    again = make(project, index, ".venv/ready")
    _, errors = again.communicate()
    assert again.returncode == 0, errors
    assert "more10-1.dist-info" in installed(project / ".venv")


def test_a_package_that_is_not_the_locks_fails_the_installation(project: Path, index: Index) -> None:
    lines = lock(index)
    index.release("more10", "1", "paper")
    (project / "requirements-mcp1.lock").write_text("".join(lines))
    running = make(project, index, ".venv-mcp1/ready")
    _, errors = running.communicate()
    assert running.returncode != 0
    assert "more10" in errors
    assert not (project / ".venv-mcp1" / "ready").exists()


def test_a_python_that_is_too_old_is_told_before_anything_is_made(project: Path, index: Index, tmp_path: Path) -> None:
    old = tmp_path / "python3.10"
    old.write_text(f'#!/bin/sh\n"{sys.executable}" -c "import sys; sys.version_info = (3, 10, 1); $2"\n')
    old.chmod(0o755)
    (project / "requirements-mcp1.lock").write_text(index.release("paper", "1"))
    running = subprocess.run(
        ["make", ".venv-mcp1/ready", f"PYTHON={old}"], cwd=project, text=True, capture_output=True, check=False
    )
    assert running.returncode != 0
    assert "Python 3.11 or later" in running.stderr
    assert "make demo PYTHON=" in running.stderr
    assert not (project / ".venv-mcp1").exists()
