import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from broker.cli import _Root, cli, commands
from broker.cli.failure import EXITS, Exit, Stop, for_each
from broker.cli.output import output_option, show
from broker.model.errors import CannotStart, Hints, ListenProblem, Reason, Refusal, invalid
from broker.v1.operator_service_pb2 import RevokeLeasesRequest
from tests.support.pages import ROOT

DENIED = Refusal(
    Reason.POLICY_DENIED,
    "policy does not permit `delete_branch`",
    Hints(
        missing="https://repo.example.org#delete_branch",
        next="ask an operator",
        policy_revision="7f3a",
        decision_id="d-1",
    ),
)
HEAVY = ("grpc", "sqlalchemy", "alembic", "rich", "cryptography", "cedarpy", "structlog", "starlette")


def failing(error: Exception) -> click.Command:
    """A root of its own whose one command fails."""
    root = _Root(name="credbroker", lazy={})

    @click.command()
    @output_option
    def fail() -> None:
        raise error

    root.get_command = lambda ctx, cmd_name: fail  # type: ignore[method-assign]
    return root


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["task", "create", "--help"],
        ["ledger", "--help"],
        ["revoke", "--help"],
        ["run", "--help"],
        ["helper", "--help"],
    ],
)
def test_help_imports_neither_grpc_nor_sql(arguments: list[str]) -> None:
    program = (
        "import sys\nfrom broker.cli import cli\n"
        f"try:\n    cli({arguments!r}, prog_name='credbroker')\n"
        f"finally:\n    print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "Usage: credbroker" in done.stdout
    assert done.stderr.strip() == "[]"


def test_the_help_lists_every_command_and_exit_code() -> None:
    shown = CliRunner().invoke(cli, ["--help"]).stdout
    files = {file.stem for file in Path(commands.__path__[0]).iterdir() if file.suffix == ".py"} - {"__init__"}
    assert set(re.findall(r"^  ([a-z]+) +[A-Z]", shown, re.MULTILINE)) == files
    for code in Exit:
        assert f"\n    {code.value}  " in shown


def test_no_test_takes_its_broker_from_the_bench() -> None:
    bench = re.compile(
        r"^\s*(from broker\.cli\.bench|from broker\.cli import bench|import broker\.cli\.bench)", re.MULTILINE
    )
    tests = sorted((ROOT / "tests").rglob("*.py"))
    assert [file for file in tests if bench.search(file.read_text(encoding="utf-8"))] == []


def test_every_reason_has_an_exit_code() -> None:
    assert set(EXITS) == set(Reason)
    assert Exit.OK not in EXITS.values()


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (Reason.INVALID_ARGUMENT, 2),
        (Reason.IDENTITY_EXPIRED, 4),
        (Reason.POLICY_DENIED, 5),
        (Reason.LOCKED, 5),
        (Reason.TASK_NOT_FOUND, 6),
        (Reason.LEDGER_UNAVAILABLE, 8),
        (Reason.INTERNAL, 1),
    ],
)
def test_refusals_exit_with_the_code_of_their_reason(reason: Reason, code: int) -> None:
    assert CliRunner().invoke(failing(Refusal(reason, "no")), ["fail"]).exit_code == code


def test_people_read_the_refusal_with_its_remedy() -> None:
    result = CliRunner().invoke(failing(DENIED), ["fail"])
    assert (result.exit_code, result.stdout) == (5, "")
    assert result.stderr.splitlines() == [
        "error: policy does not permit `delete_branch`",
        "  reason:          POLICY_DENIED",
        "  missing:         https://repo.example.org#delete_branch",
        "  policy revision: 7f3a",
        "  decision id:     d-1",
        "  next:            ask an operator",
    ]


def test_programs_read_the_refusal_as_json() -> None:
    result = CliRunner().invoke(failing(DENIED), ["fail", "-o", "json"])
    assert (result.exit_code, result.stdout) == (5, "")
    assert json.loads(result.stderr)["error"] == {
        "reason": "POLICY_DENIED",
        "message": "policy does not permit `delete_branch`",
        "missing": "https://repo.example.org#delete_branch",
        "policy_revision": "7f3a",
        "decision_id": "d-1",
        "next": "ask an operator",
        "violations": [],
    }


def test_a_refusal_names_the_wrong_field() -> None:
    result = CliRunner().invoke(failing(invalid("grants[0].tool", "is empty")), ["fail"])
    assert result.exit_code == Exit.USAGE
    assert "grants[0].tool: is empty" in result.stderr


def test_a_refusal_cannot_drive_the_terminal() -> None:
    result = CliRunner().invoke(failing(Refusal(Reason.INTERNAL, "\x1b[2J\x9bgone")), ["fail"])
    assert result.stderr.startswith("error: \\x1b[2J\\x9bgone\n")


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (Stop("out of time", Exit.STOPPED), 3, "STOPPED"),
        (click.UsageError("say why"), 2, "USAGE"),
        (FileNotFoundError(2, "No such file or directory", "token"), 1, "FAILED"),
    ],
)
def test_other_failures_are_json_for_programs_too(error: Exception, code: int, reason: str) -> None:
    result = CliRunner().invoke(failing(error), ["fail", "-o", "json"])
    assert result.exit_code == code
    assert json.loads(result.stderr)["error"]["reason"] == reason


def test_a_wrong_option_is_a_usage_error() -> None:
    result = CliRunner().invoke(cli, ["task", "get", "t", "--nonsense"])
    assert result.exit_code == 2
    assert "--nonsense" in result.stderr


def test_an_argument_that_is_no_text_is_a_usage_error() -> None:
    with pytest.raises(UnicodeEncodeError) as error:
        RevokeLeasesRequest(reason="f\udcfcr immer")  # what `für immer` is in Latin-1
    result = CliRunner().invoke(failing(error.value), ["fail"])
    assert result.exit_code == Exit.USAGE
    assert "an argument is not text in UTF-8: it holds `\\udcfc`" in result.stderr


def test_done_for_some_is_partial_and_names_the_others() -> None:
    def act(name: str) -> dict[str, object]:
        if name == "bad":
            raise Refusal(Reason.LOCK_NOT_FOUND, "no such lock")
        return {"name": name}

    outcome = for_each(["good", "bad"], act)
    assert outcome.done == [{"name": "good"}]
    with pytest.raises(Stop, match="`bad`: LOCK_NOT_FOUND") as stopped:
        outcome.conclude()
    assert stopped.value.code == Exit.PARTIAL
    for_each(["good"], act).conclude()
    with pytest.raises(Refusal):
        for_each(["bad"], act)


def test_a_table_is_aligned_plain_text_and_leaves_out_what_is_empty() -> None:
    @click.command()
    @output_option
    def command() -> None:
        show({"lease_id": "l-1", "renewals": 0, "end_time": None, "good": True, "text": "a\x1b[31mb\u202f\u202e\u200d"})

    assert (
        CliRunner().invoke(command).stdout
        == "lease_id  l-1\nrenewals  0\ngood      yes\ntext      a\\x1b[31mb\u202f\\x202e\u200d\n"
    )
    assert json.loads(CliRunner().invoke(command, ["-o", "json"]).stdout)["renewals"] == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str) -> None:
    result = CliRunner().invoke(cli, ["completion", shell])
    assert result.exit_code == 0
    assert "_CREDBROKER_COMPLETE" in result.stdout


def test_what_stops_a_start_is_told_in_the_one_place_with_exit_code_1() -> None:
    problem: CannotStart = ListenProblem("listen.address :1: taken; choose another port")
    done = CliRunner().invoke(failing(problem), ["fail"])
    assert (done.exit_code, done.stderr) == (1, "error: listen.address :1: taken; choose another port\n")
    as_json = CliRunner().invoke(failing(problem), ["fail", "--output", "json"])
    assert json.loads(as_json.stderr)["error"] == {"reason": "FAILED", "message": str(problem)}


@pytest.mark.parametrize(
    ("command", "code"),
    [("credential inspect - <&-", 2), ("completion bash >&-", 0), ("credential inspect - <&- 2>&-", 2)],
)
def test_a_stream_that_was_closed_is_an_empty_one(command: str, code: int) -> None:
    line = ["sh", "-c", f'"$0" -m broker {command}', sys.executable]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
