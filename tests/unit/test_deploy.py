"""What `deploy/` holds is good for the daemon as it is."""

from __future__ import annotations

import configparser
import shlex
from pathlib import Path

from click.testing import CliRunner

from broker.cli import cli
from broker.config.settings import load

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_the_configuration_loads() -> None:
    settings = load(DEPLOY / "broker.toml")
    assert settings.database_url.startswith("postgresql+psycopg://")
    assert not settings.migrate
    assert len(settings.identity.rules) == 5


def test_the_service_starts_a_command_that_there_is() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read(DEPLOY / "systemd" / "credbroker.service")
    program, command, option, configuration = shlex.split(unit["Service"]["ExecStart"])
    assert Path(program).name == "credbroker"
    assert Path(configuration).name == "broker.toml"
    assert option in CliRunner().invoke(cli, [command, "--help"]).output


def test_the_commands_of_the_readme_are_there() -> None:
    text = (DEPLOY / "README.md").read_text()
    for group, command in (("policy", "init"), ("keys", "create")):
        assert f"credbroker {group} {command}" in text
        assert CliRunner().invoke(cli, [group, command, "--help"]).exit_code == 0
