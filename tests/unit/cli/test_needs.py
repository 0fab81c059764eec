"""Which of the command line runs with the extra `cli` alone: all that calls a broker."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from tests.support.pages import ROOT

_ALONE = """
import sys
from importlib.abc import MetaPathFinder

known = {{"broker", "google", "grpc", "_cffi_backend", *{known!r}}}

class Nothing(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        root = name.partition(".")[0]
        if root not in known and root not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"there is no {{name}}", name=name)

sys.meta_path.insert(0, Nothing())
from broker.__main__ import main
sys.argv[0] = "credbroker"
main()
"""
_CALLS = [
    "task list", "task get t", "lease list", "lock list", "revoke --lease l --reason r", "ledger checkpoint",
    "ledger entries", "ledger prove 1", "credential issue --task t --tool https://a.example#b --out token",
    "run --task t --tool https://a.example#b -- true",
]  # fmt: skip


def installed_with(*wanted: str) -> set[str]:
    """The import names of these distributions and of all that they require."""
    names, found = list(wanted), set()
    while names:
        name = re.split(r"[^A-Za-z0-9_.-]", names.pop())[0].lower().replace("_", "-")
        if name not in found:
            found.add(name)
            names += [need for need in metadata.requires(name) or () if "extra ==" not in need]
    modules = metadata.packages_distributions()
    return {
        module for module, owners in modules.items() if {owner.lower().replace("_", "-") for owner in owners} & found
    }


def run(folder: Path, *arguments: str, extra: str) -> subprocess.CompletedProcess[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(project["optional-dependencies"][extra] if extra else ())]
    script = _ALONE.format(known=sorted(installed_with(*wanted)))
    environment = {
        "PYTHONPATH": str(ROOT),
        "CREDBROKER_ADDRESS": "localhost:1",
        "CREDBROKER_SVID_DIR": str(folder / "none"),
        "CREDBROKER_TENANT": "acme",
    }
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=folder,
        env=environment,
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@pytest.mark.parametrize("command", _CALLS)
def test_what_calls_a_broker_comes_with_the_extra_cli(command: str, tmp_path: Path) -> None:
    done = run(tmp_path, *command.split(), extra="cli")
    assert "an SVID folder holds" in done.stderr
    assert done.returncode == 4


def test_what_needs_the_server_says_so(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    for command in ("policy check bundle", "dev", "db current --database x"):
        done = run(tmp_path, *command.split(), extra="cli")
        assert done.returncode == 1
        assert re.fullmatch(r"credbroker: this command needs `\w+`: pip install 'credbroker\[server\]'\n", done.stderr)


def test_without_an_extra_the_command_line_says_which(tmp_path: Path) -> None:
    done = run(tmp_path, "task", "list", extra="")
    assert done.stderr == "credbroker: the command line needs `click`: pip install 'credbroker[cli]'\n"
