"""The command line against a real `credbroker dev`, one command after the other as a person would."""

import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from broker.cli import cli
from broker.cli.failure import Exit
from broker.cli.private import AGENT_VARIABLES

REPO = "https://repo.tools.example"
RESEARCHER = "spiffe://example.org/agent/researcher"
NOBODY = "0198f3c2-7b1e-7c11-9d3a-5b1c2f7d9e40"


class Broker:
    """A running broker, and commands to it as one of the sample identities."""

    def __init__(self, ready: dict[str, Any]) -> None:
        self.ready = ready

    def run(self, name: str, *arguments: object, input: str | None = None) -> Result:
        environment = dict.fromkeys(AGENT_VARIABLES) | {
            "CREDBROKER_ADDRESS": self.ready["address"],
            "CREDBROKER_SVID_DIR": self.ready["svids"][name],
            "CREDBROKER_TENANT": "acme",
        }
        return CliRunner().invoke(cli, [str(argument) for argument in arguments], input=input, env=environment)

    def json(self, name: str, *arguments: object) -> dict[str, Any]:
        result = self.run(name, *arguments, "-o", "json")
        assert result.exit_code == 0, result.output
        document: dict[str, Any] = json.loads(result.stdout)
        return document

    def refused(self, name: str, *arguments: object) -> tuple[int, str]:
        result = self.run(name, *arguments, "-o", "json")
        assert result.stdout == ""
        return result.exit_code, json.loads(result.stderr)["error"]["reason"]

    def new_task(self) -> str:
        task = self.json(
            "orchestrator", "task", "create", "--owner", "team-web", "--purpose", "triage-issues", "--environment",
            "dev", "--agent", RESEARCHER, "--tool", f"{REPO}#read_file", "--constraint", "read_file:/repo:eq:acme/web",
            "--lifetime", "1h",
        )  # fmt: skip
        assert task["state"] == "active"
        return str(task["task_id"])

    def issue(self, task_id: str, out: Path, *more: object) -> dict[str, Any]:
        tool = f"{REPO}#read_file"
        return self.json("researcher", "credential", "issue", "--task", task_id, "--tool", tool, "--out", out, *more)


@contextmanager
def running(directory: Path) -> Iterator[Broker]:
    process = subprocess.Popen(
        [sys.executable, "-m", "broker", "dev", "--dir", str(directory)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        try:
            yield Broker(json.loads(process.stdout.readline()))
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0
            assert process.stdout.read() == ""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with running(tmp_path_factory.mktemp("dev")) as started:
        yield started


def test_the_ready_line_says_where_everything_is(broker: Broker) -> None:
    ready = broker.ready
    directory = Path(ready["directory"])
    assert ready["ready"] is True
    assert ready["address"].startswith("localhost:")
    assert ready["database"] == f"sqlite:///{directory / 'broker.db'}"
    assert set(ready["svids"]) == {
        "broker", "orchestrator", "researcher", "writer", "operator", "verifier", "notes", "auditor",
    }  # fmt: skip
    for folder in map(Path, ready["svids"].values()):
        assert {file.name for file in folder.iterdir()} == {"svid.pem", "key.pem", "bundle.pem"}
    os.kill(ready["pid"], 0)


def test_a_credential_goes_to_a_private_file_is_renewed_and_released(broker: Broker, tmp_path: Path) -> None:
    out = tmp_path / "token"
    lease = broker.issue(broker.new_task(), out, "--constraint", "read_file:/ref:in:main,develop", "--lifetime", "90s")
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert lease["token_file"] == str(out)
    assert "token" not in lease
    (grant,) = lease["grants"]
    assert [constraint["path"] for constraint in grant["constraints"]] == ["/repo", "/ref"]
    claims = broker.json("researcher", "credential", "inspect", out)["claims"]
    assert (claims["jti"], claims["sub"]) == (lease["lease_id"], RESEARCHER)
    renewed = broker.json("researcher", "credential", "renew", lease["lease_id"], "--out", out)
    assert renewed["renewals"] == 1
    released = broker.run("researcher", "credential", "release", lease["lease_id"], NOBODY)
    assert released.exit_code == Exit.PARTIAL
    assert NOBODY in released.stderr
    assert broker.json("operator", "lease", "show", lease["lease_id"])["state"] == "revoked"
    refused = broker.refused("researcher", "credential", "renew", lease["lease_id"], "--out", out)
    assert refused == (Exit.FAILED, "LEASE_NOT_LIVE")


def test_a_token_is_printed_only_on_demand(broker: Broker) -> None:
    command = ["credential", "issue", "--task", broker.new_task(), "--tool", f"{REPO}#read_file", "--reveal"]
    shown = broker.run("researcher", *command)
    assert shown.exit_code == 0
    assert shown.stdout.splitlines()[-1].startswith("eyJ")
    assert broker.json("researcher", *command)["token"].startswith("eyJ")


def test_refusals_have_reason_and_exit_code(broker: Broker, tmp_path: Path) -> None:
    issue = ["credential", "issue", "--out", tmp_path / "token", "--task"]
    task_id = broker.new_task()
    undeclared = broker.run("researcher", *issue, task_id, "--tool", f"{REPO}#delete_repo", "-o", "json")
    error = json.loads(undeclared.stderr)["error"]
    assert (undeclared.exit_code, error["reason"]) == (Exit.DENIED, "TOOL_NOT_DECLARED")
    assert "delete_repo" in error["missing"]
    assert not (tmp_path / "token").exists()
    assert broker.refused("researcher", "lease", "list") == (Exit.DENIED, "GROUP_REQUIRED")
    assert broker.refused("broker", "task", "list") == (Exit.NOT_AUTHENTICATED, "IDENTITY_UNKNOWN")
    assert broker.refused("orchestrator", "task", "get", NOBODY) == (Exit.NOT_FOUND, "TASK_NOT_FOUND")
    assert broker.refused("operator", "lease", "list", "--all", "--tenant", "other") == (
        Exit.DENIED,
        "TENANT_FORBIDDEN",
    )
    unreachable = broker.refused("orchestrator", "task", "list", "--address", "localhost:1", "--timeout", "1s")
    assert unreachable == (Exit.UNAVAILABLE, "UNAVAILABLE")
    unknown = broker.refused("orchestrator", "task", "list", "--svid-dir", tmp_path)
    assert unknown == (Exit.NOT_AUTHENTICATED, "IDENTITY_MISSING")
    late = broker.refused("orchestrator", "task", "list", "--timeout", "1ms")
    assert late == (Exit.STOPPED, "STOPPED")


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("auditor", "ledger prove"),
        ("auditor", "ledger explanation"),
        ("auditor", "ledger entries --from"),
        ("auditor", "ledger entries --limit"),
        ("operator", "lease list --limit"),
        ("orchestrator", "task list --limit"),
    ],
)
def test_a_number_that_nothing_has_room_for_is_a_slip(broker: Broker, name: str, command: str) -> None:
    assert broker.refused(name, *command.split(), 2**63) == (Exit.USAGE, "USAGE")
    largest = broker.run(name, *command.split(), 2**63 - 1)
    assert largest.exit_code in (Exit.OK, Exit.NOT_FOUND), largest.output


def test_a_pasted_token_is_dead_at_once(broker: Broker, tmp_path: Path) -> None:
    lease = broker.issue(broker.new_task(), tmp_path / "token")
    token = (tmp_path / "token").read_text()
    preview = broker.run("operator", "revoke", "--token", "-", "--dry-run", "-o", "json", input=token)
    assert json.loads(preview.stdout)["live_leases"] == 1
    assert json.loads(preview.stdout)["sample"][0]["lease_id"] == lease["lease_id"]
    done = broker.run("operator", "revoke", "--token", "-", "--barrier", "-o", "json", input=token)
    assert done.exit_code == 0
    assert json.loads(done.stdout)["rule"]["selector"] == {"tenant": "acme", "lease_id": lease["lease_id"]}
    assert token not in done.output
    shown = broker.json("operator", "lease", "show", lease["lease_id"])
    assert (shown["state"], shown["revoked_index"]) == ("revoked", json.loads(done.stdout)["rule"]["index"])


def test_an_operator_locks_and_lifts(broker: Broker, tmp_path: Path) -> None:
    task_id = broker.new_task()
    lease = broker.issue(task_id, tmp_path / "token")
    receipt = broker.json(
        "operator", "revoke", "--task", task_id, "--reason", "ticket 4711", "--lock", "--lock-lifetime", "1h"
    )
    lock_id = receipt["lock"]["lock_id"]
    assert lock_id in [lock["lock_id"] for lock in broker.json("operator", "lock", "list")["locks"]]
    issue = ["credential", "issue", "--task", task_id, "--tool", f"{REPO}#read_file", "--out", tmp_path / "token"]
    assert broker.refused("researcher", *issue) == (Exit.DENIED, "LOCKED")
    assert broker.json("operator", "lock", "delete", lock_id)["deleted"][0]["lock_id"] == lock_id
    assert broker.refused("operator", "lock", "delete", lock_id) == (Exit.NOT_FOUND, "LOCK_NOT_FOUND")
    again = broker.issue(task_id, tmp_path / "token")
    live = broker.json("operator", "lease", "list", "--live", "--task", task_id)["leases"]
    assert [found["lease_id"] for found in live] == [again["lease_id"]]
    every = broker.run("operator", "lease", "list", "--task", task_id)
    assert every.stdout.splitlines()[0].split() == [
        "LEASE",
        "STATE",
        "HOLDER",
        "TASK",
        "RESOURCE",
        "GRANTS",
        "EXPIRE",
        "TIME",
    ]
    assert lease["lease_id"] in every.stdout


def test_a_task_is_extended_listed_and_ended(broker: Broker) -> None:
    task_id = broker.new_task()
    before = broker.json("orchestrator", "task", "get", task_id)["deadline"]
    assert broker.json("orchestrator", "task", "extend", task_id, "--lifetime", "2h")["deadline"] > before
    assert (
        broker.json("orchestrator", "task", "end", task_id, "--outcome", "completed", "--barrier")["state"]
        == "completed"
    )
    ended = broker.json("orchestrator", "task", "list", "--state", "completed", "--limit", 1)["tasks"]
    assert [task["task_id"] for task in ended] == [task_id]
    other = broker.refused("orchestrator", "task", "end", task_id, "--outcome", "failed")
    assert other == (Exit.FAILED, "TASK_NOT_ACTIVE")


def test_the_ledger_is_read_proven_and_verified(broker: Broker, tmp_path: Path) -> None:
    task_id = broker.new_task()
    (entry,) = broker.json("auditor", "ledger", "entries", "--task", task_id)["entries"]
    assert entry["kind"] == "task.created"
    (tmp_path / "vkey").write_text(broker.ready["vkey"] + "\n")
    proof = broker.json("auditor", "ledger", "prove", entry["index"], "--vkey", tmp_path / "vkey")
    assert (proof["index"], proof["verified"]) == (entry["index"], True)
    foreign = "other.example.org/ledger+5e80bc77+AWaMj/HiP4tgS1FyDSBqxxGHxRlSOf3QgmQXLQNm01TC"
    assert broker.refused("auditor", "ledger", "prove", 0, "--vkey", foreign) == (Exit.FAILED, "FAILED")
    checkpoint = broker.json("auditor", "ledger", "checkpoint")
    assert checkpoint["vkey"] == broker.ready["vkey"]
    verify = ["ledger", "verify", "--database", broker.ready["database"], "--vkey", broker.ready["vkey"]]
    report = broker.json("auditor", *verify)
    assert (report["ok"], report["trusted"]) == (True, True)
    assert report["size"] >= checkpoint["size"]


def test_an_altered_entry_is_named(broker: Broker, tmp_path: Path) -> None:
    (entry,) = broker.json("auditor", "ledger", "entries", "--task", broker.new_task())["entries"]
    copy = tmp_path / "copy.db"
    with closing(sqlite3.connect(broker.ready["database"].removeprefix("sqlite:///"))) as source:
        source.execute("VACUUM INTO ?", (str(copy),))
    with closing(sqlite3.connect(copy)) as altered, altered:
        body = "CAST(replace(CAST(body AS TEXT), 'team-web', 'team-wab') AS BLOB)"
        altered.execute(f'UPDATE ledger_entries SET body = {body} WHERE "index" = ?', (entry["index"],))
    result = broker.run("auditor", "ledger", "verify", "--database", copy, "--vkey", broker.ready["vkey"])
    assert result.exit_code == Exit.FAILED
    assert f"entry {entry['index']} has been altered" in result.stderr
    told = json.loads(broker.run("auditor", "ledger", "verify", "--database", copy, "-o", "json").stdout)
    assert [finding["index"] for finding in told["findings"]] == [entry["index"]]


def test_a_second_start_in_the_same_folder_goes_on_where_the_first_was(tmp_path: Path) -> None:
    with running(tmp_path / "dev") as first:
        task_id = first.new_task()
    with running(tmp_path / "dev") as second:
        assert second.ready["vkey"] == first.ready["vkey"]
        assert second.json("orchestrator", "task", "get", task_id)["state"] == "active"
    shutil.rmtree(tmp_path / "dev" / "keys")
    (tmp_path / "dev" / "keys").mkdir()
    command = [sys.executable, "-m", "broker", "serve", "--config", str(tmp_path / "dev" / "broker.toml")]
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert failed.returncode == Exit.FAILED
    assert "credbroker keys create" in failed.stderr
