"""What the command line says of names that nobody knows, and of lifetimes that nobody gives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from broker.cli import cli
from broker.cli.private import AGENT_VARIABLES
from broker.sandbox.broker import Broker, prepare, running

REPO, NOTES = "https://repo.tools.example", "https://notes.tools.example"
RESEARCHER, OTHER = "spiffe://example.org/agent/researcher", "spiffe://example.org/agents/researcher"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    folder = tmp_path_factory.mktemp("dev")
    configuration = prepare(folder).configuration
    everywhere = 'match = "spiffe://example.org/operator"\ntenant = "*"'
    configuration.write_text(
        configuration.read_text().replace('match = "spiffe://example.org/operator"\ntenant = "acme"', everywhere)
    )
    with running(folder) as started:
        yield started


def run(broker: Broker, name: str, *arguments: object, tenant: str = "acme") -> Result:
    environment = dict.fromkeys(AGENT_VARIABLES) | broker.environment(name) | {"CREDBROKER_TENANT": tenant}
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments], env=environment)
    assert done.exit_code == 0, done.output
    return done


def warnings(broker: Broker, name: str, *arguments: object, tenant: str = "acme") -> list[str]:
    """The warnings of a command, which people and programs are told alike."""
    told = run(broker, name, *arguments, tenant=tenant)
    document: dict[str, Any] = json.loads(run(broker, name, *arguments, "-o", "json", tenant=tenant).stdout)
    assert [line for line in told.stderr.splitlines() if line.startswith("warning: ")] == [
        f"warning: {warning}" for warning in document["warnings"]
    ]
    assert "warnings" not in told.stdout
    found: list[str] = document["warnings"]
    return found


def task(*more: str) -> list[str]:
    return ["task", "create", "--owner", "o", "--purpose", "p", "--environment", "dev", "--lifetime", "1h", *more]


TARGETS = [
    (["--agent", "spiffe://example.org/agent/reseacher"], f"alone; did you mean `{RESEARCHER}`?"),
    (["--agent", OTHER], f"no rule of the tenant `acme` knows the agent `{OTHER}`; did"),
    (["--agent", "spiffe://example.com/agent/writer"], "did you mean `spiffe://example.org/agent/writer`?"),
    (["--agent", "spiffe://example.org/agent/bookkeeper"], "`spiffe://example.org/agent/*` alone, and has had no"),
    (["--agent", "spiffe://example.org/orchestrator"], "is no agent: its rule gives it the groups orchestrators"),
    (["--tool", f"{REPO}#read_fil"], f"knows no tool `read_fil` at `{REPO}`; did you mean `{REPO}#read_file`?"),
    (["--tool", f"{REPO}#Read_File"], f"did you mean `{REPO}#read_file`?"),
    (["--tool", "https://repo.tool.example#read_file"], f"`https://repo.tool.example`; did you mean `{REPO}#read_f"),
    (["--tool", "https://elsewhere.invalid#fly"], "knows no resource `https://elsewhere.invalid`"),
]  # fmt: skip
IDS = [" ".join(target) for target, _ in TARGETS]


@pytest.mark.parametrize(("target", "said"), TARGETS, ids=IDS)
def test_a_task_that_names_what_nobody_knows(broker: Broker, target: list[str], said: str) -> None:
    rest = ["--tool", f"{REPO}#read_file"] if target[0] == "--agent" else ["--agent", RESEARCHER]
    (warning,) = warnings(broker, "orchestrator", *task(*target, *rest))
    assert said in warning


@pytest.mark.parametrize(("target", "said"), TARGETS, ids=IDS)
def test_a_revocation_and_a_lock_that_name_what_nobody_knows(broker: Broker, target: list[str], said: str) -> None:
    for command in (["revoke", "--reason", "r"], ["revoke", "--dry-run"], ["lock", "create", "--reason", "r"]):
        (warning,) = warnings(broker, "operator", *command, *target)
        assert said in warning


def test_a_tenant_that_nobody_is_of(broker: Broker) -> None:
    (warning,) = warnings(broker, "operator", "revoke", "--reason", "r", "--agent", RESEARCHER, tenant="acne")
    assert warning == "no rule gives the tenant `acne`; did you mean `acme`?"


def test_of_what_is_known_nothing_is_said(broker: Broker) -> None:
    known = ["--agent", RESEARCHER, "--agent", "spiffe://example.org/agent/writer", "--tool", f"{REPO}#read_file"]
    assert warnings(broker, "orchestrator", *task(*known)) == []
    for target in (["--agent", RESEARCHER], ["--tool", f"{NOTES}#add_note"], ["--all"], ["--task", "t"]):
        assert warnings(broker, "operator", "revoke", "--reason", "r", *target) == []
    assert warnings(broker, "operator", "revoke", "--reason", "r", "--all", tenant="*") == []


@pytest.mark.parametrize(
    ("tool", "asked", "said"),
    [
        (f"{REPO}#read_file", "3h", "asked for 3h, and got 5m:"),
        (f"{NOTES}#search_notes", "3h", "asked for 3h, and got 2m:"),
        (f"{NOTES}#search_notes", "2m1500ms", ""),
        (f"{REPO}#read_file", "5m", ""),
        (f"{REPO}#read_file", "30s", ""),
    ],
)
def test_a_lifetime_that_is_cut_is_told(broker: Broker, tmp_path: Path, tool: str, asked: str, said: str) -> None:
    declared = run(broker, "orchestrator", *task("--agent", RESEARCHER, "--tool", tool), "-o", "json")
    options = ["--task", json.loads(declared.stdout)["task_id"], "--tool", tool, "--lifetime", asked]
    found = warnings(broker, "researcher", "credential", "issue", *options, "--out", tmp_path / "token")
    assert [said in warning for warning in found] == [True] * bool(said)
    lease = json.loads(
        run(broker, "researcher", "credential", "issue", *options, "--out", tmp_path / "token", "-o", "json").stdout
    )
    renew = ["credential", "renew", lease["lease_id"], "--lifetime", asked, "--out", tmp_path / "token"]
    assert [said in warning for warning in warnings(broker, "researcher", *renew)] == [True] * bool(said)
    helped = run(broker, "researcher", "helper", "mcp-headers", *options)
    assert (said in helped.stderr) if said else (helped.stderr == "")


def test_a_tool_with_a_typo_that_an_agent_asks_for_is_told_with_what_its_task_declares(broker: Broker) -> None:
    declared = run(broker, "orchestrator", *task("--agent", RESEARCHER, "--tool", f"{REPO}#read_file"), "-o", "json")
    options = ["--task", json.loads(declared.stdout)["task_id"], "--tool", f"{REPO}#read_fil", "--reveal"]
    environment = dict.fromkeys(AGENT_VARIABLES) | broker.environment("researcher")
    done = CliRunner().invoke(cli, ["credential", "issue", *options], env=environment)
    assert "did you mean `read_file`?" in done.stderr


def test_a_command_with_a_typo_is_told_with_the_one_that_was_meant() -> None:
    for typo, meant in (("tsk", "task"), ("polcy", "policy"), ("revok", "revoke")):
        assert f"Did you mean '{meant}'?" in CliRunner().invoke(cli, [typo]).output
