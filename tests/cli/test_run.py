"""`credbroker run` as its users have it: a process of its own, with a real broker and real commands."""

from __future__ import annotations

import json
import os
import pty
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from broker.cli.failure import Exit
from broker.cli.unverified import decode
from broker.model.task import TaskState
from broker.sandbox.broker import RESOURCE, TOOL, prepare
from broker.sdk.client.sync import SyncClient
from broker.v1 import operator_service_pb2 as operator_pb
from broker.v1.lease_pb2 import LeaseState
from broker.v1.selector_pb2 import Selector
from tests.support.doors import Doors, opened
from tests.support.waiting import catches, wait_for

REPORT = """
import json, os, sys
path, fd = os.environ.get("CREDBROKER_TOKEN_FILE"), os.environ.get("CREDBROKER_TOKEN_FD")
read = (lambda: open(path).read()) if path else (lambda: os.pread(int(fd), 65536, 0).decode())
def report(**more):
    print(json.dumps({"token": read(), "path": path, "pid": os.getpid(), **more}), flush=True)
"""
"""What our commands begin with: `report` prints their token, and what else they have to say."""


@dataclass
class Supervised:
    """A running `credbroker run`."""

    popen: subprocess.Popen[str]

    def report(self) -> dict[str, Any]:
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        assert line, self.end()
        report: dict[str, Any] = json.loads(line)
        return report

    def end(self) -> tuple[int, str]:
        """Wait for its end; give exit code and stderr."""
        stderr = self.popen.communicate(timeout=60)[1]
        return self.popen.returncode, stderr


@dataclass
class House:
    """A broker, and what is left of what was run."""

    doors: Doors
    runtime: Path

    def start(
        self, task_id: str, command: Sequence[str], *options: str, before: Sequence[str] = (), **settings: Any
    ) -> Supervised:
        environment = os.environ | self.doors.broker.environment("researcher") | {"XDG_RUNTIME_DIR": str(self.runtime)}
        run = [sys.executable, "-m", "broker", "run", "--task", task_id, "--tool", f"{RESOURCE}#{TOOL}", *options, "--"]
        pipes: Mapping[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return Supervised(subprocess.Popen([*before, *run, *command], env=environment, **{**pipes, **settings}))

    def begin_task(self) -> str:
        return self.doors.broker.begin_task()

    def states(self, task_id: str) -> list[str]:
        """Return the states of all leases of a task."""
        request = operator_pb.ListLeasesRequest(selector=Selector(tenant="acme", task_id=task_id), page_size=100)
        leases = self.doors.call("operator", "OperatorService.ListLeases", request).leases
        return [LeaseState.Name(lease.state).removeprefix("LEASE_STATE_") for lease in leases]

    def leftovers(self) -> list[Path]:
        return list(self.runtime.iterdir())


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with opened(tmp_path_factory.mktemp("broker")) as doors:
        yield House(doors, tmp_path_factory.mktemp("runtime"))


def python(program: str) -> list[str]:
    return [sys.executable, "-c", REPORT + program]


def test_a_command_has_its_token_in_a_private_file_for_as_long_as_it_runs(house: House) -> None:
    task_id = house.begin_task()
    running = house.start(task_id, python("report(); sys.stdin.readline(); sys.exit(7)"), stdin=subprocess.PIPE)
    report = running.report()
    path, token = Path(report["path"]), report["token"]
    assert decode(token).claims["aud"] == RESOURCE
    assert path.is_relative_to(house.runtime)
    assert [stat.S_IMODE(place.stat().st_mode) for place in (path, path.parent)] == [0o600, 0o700]
    assert house.states(task_id) == ["LIVE"]
    for pid in (report["pid"], running.popen.pid):
        for place in ("cmdline", "environ"):
            assert token not in Path(f"/proc/{pid}/{place}").read_text()
    assert running.popen.stdin is not None
    running.popen.stdin.write("on\n")
    running.popen.stdin.flush()
    assert running.end() == (7, "")
    assert house.states(task_id) == ["REVOKED"]
    assert not house.leftovers()


def test_a_command_has_its_token_behind_a_descriptor_and_reads_the_next_one_there(house: House) -> None:
    task_id = house.begin_task()
    program = """
import time
report(named=sorted(name for name in os.environ if name.startswith("CREDBROKER_TOKEN")))
first = read()
while read() == first:
    time.sleep(0.05)
os.lseek(int(fd), 0, os.SEEK_SET)
assert os.read(int(fd), 65536).decode() == read()
report()
"""
    running = house.start(task_id, python(program), "--via", "fd", "--lifetime", "12s")
    first, second = running.report(), running.report()
    assert first["named"] == ["CREDBROKER_TOKEN_FD"]
    for token in (first["token"], second["token"]):
        assert decode(token).claims["aud"] == RESOURCE
    assert first["token"] != second["token"]
    assert running.end() == (0, "")
    assert house.states(task_id) == ["REVOKED"]
    assert not house.leftovers()


def test_the_file_is_replaced_when_the_credential_is_renewed(house: House) -> None:
    task_id = house.begin_task()
    program = """
import time
report(inode=os.stat(path).st_ino)
held, first = open(path), read()
while read() == first:
    time.sleep(0.05)
assert held.read() == first
report(inode=os.stat(path).st_ino)
"""
    running = house.start(task_id, python(program), "--lifetime", "15s")
    first, second = running.report(), running.report()
    assert first["inode"] != second["inode"]
    old, new = (decode(report["token"]).claims for report in (first, second))
    assert (old["jti"], new["exp"] > old["exp"]) == (new["jti"], True)
    assert running.end() == (0, "")
    assert house.states(task_id) == ["REVOKED"]


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        (["true"], 0, ""),
        (["sh", "-c", "kill -KILL $$"], 128 + signal.SIGKILL, ""),
        (["no-such-command"], 127, "cannot start `no-such-command`: No such file"),
        (["/etc/passwd"], 126, "cannot start `/etc/passwd`: Permission denied"),
    ],
)
def test_however_a_command_ends_its_credential_ends_with_it(
    house: House, command: list[str], code: int, says: str
) -> None:
    task_id = house.begin_task()
    exit_code, stderr = house.start(task_id, command).end()
    assert exit_code == code
    assert says in stderr
    assert bool(stderr) == bool(says)
    assert house.states(task_id) == ["REVOKED"]
    assert not house.leftovers()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_goes_on_to_the_command_which_may_have_its_own_mind(house: House, number: signal.Signals) -> None:
    task_id = house.begin_task()
    program = f"""
import signal, time
def enough(*_):
    report(got=True)
    sys.exit(9)
signal.signal({int(number)}, enough)
report()
time.sleep(30)
"""
    running = house.start(task_id, python(program), start_new_session=True)
    running.report()
    running.popen.send_signal(number)
    assert running.report()["got"]
    assert running.end() == (9, "")
    assert house.states(task_id) == ["REVOKED"]
    assert not house.leftovers()


def test_a_signal_that_the_command_does_not_survive_is_told_by_the_exit_code(house: House) -> None:
    task_id = house.begin_task()
    running = house.start(task_id, python("import time; report(); time.sleep(30)"))
    running.report()
    running.popen.terminate()
    assert running.end() == (128 + signal.SIGTERM, "")
    assert house.states(task_id) == ["REVOKED"]


def test_what_is_ignored_stays_ignored(house: House) -> None:
    program = "import signal; report(ignored=signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        running = house.start(house.begin_task(), python(program))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert running.report()["ignored"]
    assert running.end()[0] == 0


def test_ctrl_c_on_a_terminal_reaches_the_command_once(house: House) -> None:
    task_id = house.begin_task()
    program = """
import signal, time
count = 0
def interrupted(*_):
    global count
    count += 1
signal.signal(signal.SIGINT, interrupted)
report()
deadline = time.monotonic() + 10
while not count and time.monotonic() < deadline:
    time.sleep(0.05)
time.sleep(0.5)
report(count=count)
"""
    keyboard, terminal = pty.openpty()
    # The terminal becomes that of the session whose leader opens it first: the shell's, which becomes ours.
    opening = ["sh", "-c", f'exec "$@" 3<>{os.ttyname(terminal)}', "sh"]
    running = house.start(task_id, python(program), before=opening, start_new_session=True)
    running.report()
    os.write(keyboard, b"\x03")
    assert running.report()["count"] == 1
    assert running.end() == (0, "")
    assert house.states(task_id) == ["REVOKED"]
    os.close(keyboard)
    os.close(terminal)


def test_a_signal_before_there_is_a_command_lets_none_start(house: House) -> None:
    task_id = house.begin_task()
    broker = house.doors.broker.pid
    assert broker is not None
    os.kill(broker, signal.SIGSTOP)
    try:
        running = house.start(task_id, ["touch", str(house.runtime / "started")])
        wait_for(lambda: catches(running.popen.pid, signal.SIGTERM))
        running.popen.terminate()
        time.sleep(0.2)
    finally:
        os.kill(broker, signal.SIGCONT)
    assert running.end() == (128 + signal.SIGTERM, "")
    assert house.states(task_id) == ["REVOKED"]
    assert not house.leftovers()


def test_without_a_credential_no_command_starts(house: House) -> None:
    nobody = "0198f3c2-7b1e-7c11-9d3a-5b1c2f7d9e40"
    code, stderr = house.start(nobody, ["touch", str(house.runtime / "started")]).end()
    assert code == Exit.NOT_FOUND
    assert "TASK_NOT_FOUND" in stderr
    assert not house.leftovers()


def test_when_the_task_ends_the_command_goes_on_and_is_told_once(house: House) -> None:
    task_id = house.begin_task()
    program = python("report(); sys.stdin.readline(); report()")
    running = house.start(task_id, program, "--lifetime", "6s", stdin=subprocess.PIPE)
    running.report()
    with SyncClient(house.doors.broker.address, house.doors.broker.svids / "orchestrator") as client:
        client.end_task(task_id, TaskState.CANCELLED)
    assert running.popen.stderr is not None
    assert "cannot be renewed any more" in running.popen.stderr.readline()
    assert running.popen.stdin is not None
    running.popen.stdin.write("on\n")
    running.popen.stdin.flush()
    running.report()
    assert running.end() == (0, "")
    assert house.states(task_id) == ["REVOKED"]


def test_a_command_gets_another_credential_when_the_total_lifetime_of_its_lease_is_over(
    house: House, tmp_path: Path
) -> None:
    configuration = prepare(tmp_path).configuration
    configuration.write_text(configuration.read_text().replace("[limits]\n", '[limits]\ntotal_lifetime = "4s"\n'))
    with opened(tmp_path) as doors:
        lasting = House(doors, house.runtime)
        task_id = lasting.begin_task()
        program = """
import base64, time
lease = lambda: json.loads(base64.urlsafe_b64decode(read().split(".")[1] + "=="))["jti"]
first = lease()
while lease() == first:
    time.sleep(0.05)
report(first=first, second=lease())
"""
        running = lasting.start(task_id, python(program), "--lifetime", "3s")
        report = running.report()
        assert decode(report["token"]).claims["jti"] == report["second"] != report["first"]
        assert running.end() == (0, "")
        assert "LIVE" not in lasting.states(task_id)
        assert len(lasting.states(task_id)) >= 2
    assert not house.leftovers()


def test_what_cannot_be_released_is_said_to_live_until_it_expires(house: House, tmp_path: Path) -> None:
    with opened(tmp_path) as doors:
        lonely = House(doors, house.runtime)
        program = python("report(); sys.stdin.readline(); sys.exit(5)")
        running = lonely.start(lonely.begin_task(), program, "--timeout", "2s", stdin=subprocess.PIPE)
        claims = decode(running.report()["token"]).claims
    code, stderr = running.end()
    assert code == 5
    assert f"lease {claims['jti']} could not be released" in stderr
    assert f"lives until {datetime.fromtimestamp(claims['exp'], UTC):%Y-%m-%dT%H:%M:%SZ}" in stderr
    assert not house.leftovers()
