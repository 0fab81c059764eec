import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from broker.cli import cli
from broker.cli.declaration import declare, read_declaration
from broker.model.grant import Constraint, Grant, Operator, ResourceGrants
from broker.model.task import Declaration, Environment

GIVEN: dict[str, Any] = {
    "owner": "team-web",
    "purpose": "triage-issues",
    "environment": "dev",
    "agents": ["spiffe://example.org/agent/researcher"],
    "tools": ["https://repo.example.org#read_file"],
    "constraints": ["read_file:/repo:eq:acme/web"],
    "lifetime": "1h",
}
TOML = "\n".join(f"{name} = {json.dumps(value)}" for name, value in GIVEN.items())
DECLARED = Declaration(
    owner="team-web",
    purpose="triage-issues",
    environment=Environment.DEV,
    agents=("spiffe://example.org/agent/researcher",),
    tools=(
        ResourceGrants(
            "https://repo.example.org",
            (Grant("read_file", (Constraint("/repo", Operator.EQ, ("acme/web",)),)),),
        ),
    ),
    deadline=timedelta(hours=1),
)


@pytest.mark.parametrize(("name", "text"), [("task.toml", TOML), ("task.json", json.dumps(GIVEN))])
def test_a_declaration_file_says_what_flags_say(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    assert declare(read_declaration(file)) == DECLARED


def test_flags_are_tuples_and_spans() -> None:
    flags = {name: tuple(value) if isinstance(value, list) else value for name, value in GIVEN.items()}
    assert declare(flags | {"lifetime": timedelta(hours=1)}) == DECLARED


@pytest.mark.parametrize("name", ["owner", "purpose", "environment", "agents", "tools", "lifetime"])
def test_what_is_missing_is_named(name: str) -> None:
    with pytest.raises(click.UsageError, match=name):
        declare({key: value for key, value in GIVEN.items() if key not in (name, "constraints")})


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"onwer": "x"}, "no `onwer`"),
        ({"owner": 1}, "`owner` must be text"),
        ({"agents": "spiffe://example.org/a"}, "`agents` must be a list"),
        ({"tools": [1]}, "`tools` must be a list"),
        ({"environment": "lab"}, "one of dev, staging, prod"),
        ({"risk_threshold": True}, "risk_threshold"),
        ({"lifetime": "soon"}, "not a duration"),
        ({"constraints": ["write:/x:present"]}, "not asked for"),
    ],
)
def test_a_wrong_value_is_named(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(click.UsageError, match=says):
        declare(GIVEN | wrong)


@pytest.mark.parametrize(("name", "text"), [("task.toml", "owner ="), ("task.json", "{"), ("list.json", "[]")])
def test_a_malformed_file_is_a_usage_error_that_names_it(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    result = CliRunner().invoke(cli, ["task", "create", "--file", str(file)])
    assert result.exit_code == 2
    assert name in result.stderr
