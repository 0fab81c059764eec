import os
import pty
import subprocess
import sys

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from broker.cli import cli
from broker.cli.commands.helper import _is_for, _read_attributes
from broker.cli.private import AGENT_VARIABLES

WANTED = ["--task", "t-1", "--tool", "https://notes.example.org#search_notes"]
NOTES = "protocol=https\nhost=notes.example.org\n\n"
UNREACHABLE = {"CREDBROKER_ADDRESS": "localhost:1", "CREDBROKER_SVID_DIR": "/nowhere"}
COMMANDS = ["mcp-headers", "aws", "kubectl", "git"]
NAMES = st.text(st.characters(exclude_characters="=\n\r", exclude_categories=["Cs"]), min_size=1)
VALUES = st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]))


def run(name: str, *more: str, input: str = NOTES, **environment: str) -> Result:
    """Call a helper without a broker: who gets past our own refusals ends with IDENTITY_MISSING."""
    rest = ["get"] if name == "git" and not more else more
    clean: dict[str, str | None] = dict.fromkeys((*AGENT_VARIABLES, "KUBERNETES_EXEC_INFO"))
    return CliRunner().invoke(cli, ["helper", name, *WANTED, *rest], input=input, env=clean | UNREACHABLE | environment)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_helper_asks_the_broker(name: str) -> None:
    result = run(name)
    assert result.exit_code == 4
    assert "IDENTITY_MISSING" in result.stderr


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("variable", AGENT_VARIABLES)
def test_a_helper_is_refused_where_a_model_reads(name: str, variable: str) -> None:
    result = run(name, **{variable: "1"})
    assert (result.exit_code, result.stdout) == (2, "")
    assert variable in result.stderr
    assert "credbroker run" in result.stderr


def test_a_helper_is_refused_on_a_terminal() -> None:
    keyboard, terminal = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name not in AGENT_VARIABLES} | UNREACHABLE
    command = [sys.executable, "-m", "broker", "helper", "mcp-headers", *WANTED]
    done = subprocess.run(command, stdout=terminal, stderr=subprocess.PIPE, env=environment, text=True, check=False)
    os.close(terminal)
    os.close(keyboard)
    assert done.returncode == 2
    assert "not for a terminal" in done.stderr


@pytest.mark.parametrize(
    ("operation", "asked"),
    [
        ("store", NOTES),
        ("erase", NOTES),
        ("capability", ""),
        ("get", "protocol=https\nhost=other.example.org\n\n"),
        ("get", "protocol=https\nhost=notes.example.org:8443\n\n"),
        ("get", "protocol=https\nhost=notes.example.org.example.net\n\n"),
        ("get", "protocol=http\nhost=notes.example.org\n\n"),
        ("get", "host=notes.example.org\n\n"),
        ("get", "protocol=https\n\nhost=notes.example.org\n"),
        ("get", "nonsense"),
        ("get", ""),
    ],
)
def test_git_is_told_nothing_about_what_is_not_ours(operation: str, asked: str) -> None:
    result = run("git", operation, input=asked, AGENT="1")
    assert (result.exit_code, result.output) == (0, "")


def test_git_may_write_the_host_as_it_likes() -> None:
    assert run("git", "get", input="protocol=https\nhost=Notes.Example.ORG\n").exit_code == 4


@pytest.mark.parametrize("info", ["{", "[]", "{}", '"v1"', '{"apiVersion": "client.authentication.k8s.io/v2"}'])
def test_an_unknown_version_of_exec_credential_is_refused_before_there_is_a_credential(info: str) -> None:
    result = run("kubectl", KUBERNETES_EXEC_INFO=info)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "KUBERNETES_EXEC_INFO" in result.stderr


@given(st.dictionaries(NAMES, VALUES))
def test_what_git_writes_is_read(attributes: dict[str, str]) -> None:
    text = "".join(f"{name}={value}\n" for name, value in attributes.items())
    assert _read_attributes(text.encode()) == attributes


@given(st.binary())
def test_whatever_stands_on_stdin_is_no_error_and_names_no_host_of_ours(data: bytes) -> None:
    assert not _is_for("https://notes.example.org", _read_attributes(data))


def test_a_credential_of_a_helper_is_for_one_resource() -> None:
    result = run("mcp-headers", "--tool", "https://other.example.org#read")
    assert result.exit_code == 2
    assert "one resource" in result.stderr
