"""What `deploy/` says and holds, done in order under a folder of our own, with a real PostgreSQL."""

from __future__ import annotations

import configparser
import json
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from broker.cli import cli
from broker.cli.private import AGENT_VARIABLES
from broker.sandbox.ports import free_port
from tests.support.pages import ROOT, blocks, section

DEPLOY = ROOT / "deploy"
OF_THE_SYSTEM = ("useradd", "python3 -m venv", "systemctl", "install --mode=0644")
NAMES = {
    "broker": "broker", "orchestrator": "orchestrator", "researcher": "agent/researcher",
    "verifier": "tool-server/repo", "operator": "operator", "auditor": "auditor",
}  # fmt: skip


class Place:
    """Where the documented paths are here."""

    def __init__(self, folder: Path, database: str) -> None:
        self.folder = folder
        self.port = free_port()
        self._here = {
            "/opt/credbroker/bin/": f"{Path(sys.executable).parent}/",
            "/etc/credbroker": str(folder / "etc"),
            "/var/lib/credbroker": str(folder / "var"),
            "/run/credbroker": str(folder / "run"),
            "postgresql://credbroker@db.example.org/credbroker": database,
            "0.0.0.0:8443": f"127.0.0.1:{self.port}",
            "runuser --user credbroker -- ": "",
            "--group=credbroker ": "",
        }

    def of(self, text: str) -> str:
        for written, meant in self._here.items():
            text = text.replace(written, meant)
        return text

    def run(self, name: str, *arguments: object) -> dict[str, Any]:
        environment = dict.fromkeys(AGENT_VARIABLES) | {
            "CREDBROKER_ADDRESS": f"localhost:{self.port}",
            "CREDBROKER_SVID_DIR": str(self.folder / "svids" / name),
            "CREDBROKER_TENANT": "acme",
        }
        done = CliRunner().invoke(cli, [*map(str, arguments), "-o", "json"], env=environment)
        assert done.exit_code == 0, done.output
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@pytest.fixture
def place(tmp_path: Path, new_postgresql_url: Callable[[], str]) -> Place:
    url = new_postgresql_url().replace("postgresql+psycopg://", "postgresql://")
    found = Place(tmp_path, url)
    (tmp_path / "etc").mkdir()
    done = CliRunner().invoke(cli, ["svid", "init", str(tmp_path / "svids")])
    for name, path in NAMES.items():
        identity = ["--id", f"spiffe://example.org/{path}", "--dns", "localhost"]
        done = CliRunner().invoke(cli, ["svid", "issue", str(tmp_path / "svids"), name, *identity])
        assert done.exit_code == 0, done.output
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "svid").symlink_to(tmp_path / "svids" / "broker")
    for file in DEPLOY.glob("*.toml"):
        (tmp_path / file.name).write_text(found.of(file.read_text()))
    return found


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def started(place: Place) -> Iterator[None]:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read(DEPLOY / "systemd" / "credbroker.service")
    log = place.folder / "log"
    with log.open("wb") as errors:
        process = subprocess.Popen(shlex.split(place.of(unit["Service"]["ExecStart"])), stderr=errors)
    try:
        until = time.monotonic() + 120
        while not listening(place.port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until
            time.sleep(0.1)
        yield
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.postgres
def test_the_samples_fit_together_and_start(place: Place) -> None:
    prepared, kept = (block.commands() for block in blocks(section(DEPLOY / "README.md")))
    for command in prepared:
        if not command.startswith(OF_THE_SYSTEM):
            subprocess.run(["sh", "-ec", place.of(command)], cwd=place.folder, env=dict(os.environ), check=True)
    with started(place):
        task = place.run(
            "orchestrator", "task", "create", "--owner", "team-web", "--purpose", "triage", "--environment", "dev",
            "--agent", "spiffe://example.org/agent/researcher", "--tool", "https://repo.tools.example#read_file",
            "--lifetime", "1h",
        )  # fmt: skip
        options = ["--task", task["task_id"], "--tool", "https://repo.tools.example#read_file"]
        lease = place.run("researcher", "credential", "issue", *options, "--out", place.folder / "token")
        assert lease["binding"] == "identity"
        assert [found["lease_id"] for found in place.run("operator", "lease", "list")["leases"]] == [lease["lease_id"]]
        (command,) = kept
        words = shlex.split(command)[1:]
        words[-1] = str(place.folder / words[-1])
        assert place.run("auditor", *words)["vkey"] == Path(words[-1]).read_text().strip()
        assert place.run("auditor", *words)["vkey"]
        Path(words[-1]).write_text("other.example.org/ledger+5e80bc77+AWaMj/HiP4tgS1FyDSBqxxGHxRlSOf3QgmQXLQNm01TC\n")
        with pytest.raises(AssertionError, match="holds another key"):
            place.run("auditor", *words)
