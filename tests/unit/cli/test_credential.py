import base64
import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from broker.cli import cli
from broker.cli.private import AGENT_VARIABLES
from broker.cli.unverified import decode

ISSUE = ["credential", "issue", "--task", "t-1", "--tool", "https://repo.example.org#read_file"]
CLAIMS = {"jti": "l-1", "sub": "spiffe://example.org/agent/researcher", "aud": "https://repo.example.org"}


def token(claims: object = CLAIMS, header: object = {"alg": "ES256", "typ": "at+jwt"}) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in (header, claims)]
    return ".".join([*parts, "c2lnbmF0dXJl"])


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    for name in AGENT_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return CliRunner()


@pytest.mark.parametrize("command", [ISSUE, ["credential", "renew", "l-1"]])
@pytest.mark.parametrize("name", AGENT_VARIABLES)
def test_a_token_is_not_printed_where_a_model_reads(runner: CliRunner, command: list[str], name: str) -> None:
    result = runner.invoke(cli, [*command, "--reveal"], env={name: "1"})
    assert result.exit_code == 2
    assert name in result.stderr
    assert "--out FILE" in result.stderr


@pytest.mark.parametrize("destination", [[], ["--reveal", "--out", "token"]])
def test_a_token_goes_to_exactly_one_place(runner: CliRunner, destination: list[str]) -> None:
    result = runner.invoke(cli, [*ISSUE, *destination])
    assert result.exit_code == 2
    assert "say where the token goes" in result.stderr


def test_a_file_that_cannot_be_written_is_noticed_before_there_is_a_token(runner: CliRunner, tmp_path: Path) -> None:
    result = runner.invoke(cli, [*ISSUE, "--out", str(tmp_path / "missing" / "token")])
    assert result.exit_code == 2
    assert "cannot write" in result.stderr


def test_a_credential_is_for_one_resource(runner: CliRunner) -> None:
    result = runner.invoke(cli, [*ISSUE, "--tool", "https://notes.example.org#write", "--out", "token"])
    assert result.exit_code == 2
    assert "one resource" in result.stderr


@pytest.mark.parametrize("prefix", ["", "Bearer "])
def test_inspect_shows_claims_and_says_that_they_are_unverified(runner: CliRunner, tmp_path: Path, prefix: str) -> None:
    file = tmp_path / "token"
    file.write_text(prefix + token() + "\n")
    from_file = runner.invoke(cli, ["credential", "inspect", str(file), "-o", "json"])
    from_stdin = runner.invoke(cli, ["credential", "inspect", "-o", "json"], input=token())
    assert json.loads(from_file.stdout) == json.loads(from_stdin.stdout)
    assert json.loads(from_file.stdout)["claims"] == CLAIMS
    assert json.loads(from_file.stdout)["verified"] is False
    for_people = runner.invoke(cli, ["credential", "inspect", str(file)])
    assert "not verified" in for_people.stderr
    assert "c2lnbmF0dXJl" not in for_people.output


@given(st.text() | st.builds("{}.{}.{}".format, st.text(), st.text(), st.text()))
def test_whatever_is_no_token_is_refused_without_repeating_it(text: str) -> None:
    try:
        decode(text)
    except click.UsageError as error:
        assert error.message == "this is not a token: it should be three parts of base64url between dots (a JWT)"  # noqa: PT017 (may also decode)


@pytest.mark.parametrize("text", ["secret", "a.b.c", "a.b", token(claims=[1]), "é" * 9, "x" * 70_000])
def test_inspect_refuses_what_is_no_token_and_keeps_it_to_itself(runner: CliRunner, text: str) -> None:
    result = runner.invoke(cli, ["credential", "inspect"], input=text.encode())
    assert result.exit_code == 2
    assert "not a token" in result.stderr
    assert text not in result.output
