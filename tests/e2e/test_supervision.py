"""A part of the daemon that raises, returns, is cancelled or hangs: at start, under load, and at shutdown."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from broker import daemon
from broker.doors import Ready
from broker.jobs.supervisor import PartEnded, Supervisor
from broker.lease.desk import TaskCache
from broker.model.errors import Reason, Refusal
from broker.model.grant import Grant
from broker.model.task import TaskState
from broker.revocation.feed import FRESHNESS
from broker.sandbox.broker import AGENT, RESOURCE, TOOL, Broker, prepare
from broker.sdk.client.client import Client
from broker.sdk.connect.endpoint import Endpoint
from broker.sdk.verify.presentation import Presentation
from broker.sdk.verify.verifier import Verifier
from broker.sdk.verify.watching import watching

PARTS = ["feed", "marks", "identity", "issuers", "health", "probe", "effects", "schedule"]
SAYS = {"raises": "ZeroDivisionError", "returns": "has returned", "is cancelled": "was cancelled"}
LONG = 90.0  # seconds: however busy the machine is


@dataclass
class Fault:
    """What happens to one part, once `strike` is set; `at_shutdown`, when it is told to end."""

    part: str
    how: str
    at_shutdown: bool = False
    strike: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def befall(self, work: Coroutine[Any, Any, None]) -> None:
        running = asyncio.ensure_future(work)
        try:
            await self.strike.wait()
        except asyncio.CancelledError:
            if not self.at_shutdown:
                raise
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        await self.happen()

    async def happen(self) -> None:
        if self.how == "raises":
            raise ZeroDivisionError(f"{self.part} is broken")
        if self.how == "is cancelled":
            raise asyncio.CancelledError
        while self.how == "hangs" and not self.over.is_set():
            with suppress(asyncio.CancelledError):
                await self.over.wait()


class Sabotaged(Supervisor):
    """A supervisor one of whose parts meets with a fault."""

    fault: Fault

    def __init__(self) -> None:
        super().__init__(patience=1.0)

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        super().start(name, self.fault.befall(work) if name == self.fault.part else work)


@dataclass
class Served:
    """A daemon in this process, and what it ends with."""

    broker: Broker
    running: asyncio.Task[None]

    async def outcome(self) -> BaseException | None:
        await asyncio.wait([self.running], timeout=LONG)
        return self.running.exception()


@asynccontextmanager
async def serving(folder: Path, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    deployment = prepare(folder)
    monkeypatch.setattr(Sabotaged, "fault", fault, raising=False)
    monkeypatch.setattr(daemon, "Supervisor", Sabotaged)
    ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(daemon.serve(deployment.settings(), ready.set_result))
    await asyncio.wait({ready, running}, return_when=asyncio.FIRST_COMPLETED)  # type: ignore[type-var]  # of two kinds
    port = ready.result().port if ready.done() else 0
    try:
        yield Served(Broker(f"localhost:{port}", deployment.svids), running)
    finally:
        fault.over.set()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def load(broker: Broker, task_id: str, answers: list[Reason | None]) -> None:
    """Ask for credentials without end, and note what came of each call: None, or why not."""
    async with Client(broker.address, broker.svids / "researcher") as agent:
        while True:
            try:
                await agent.issue(task_id, RESOURCE, [Grant(TOOL)])
                answers.append(None)
            except Refusal as refusal:
                answers.append(refusal.reason)
                return


@pytest.mark.parametrize(("part", "how"), [*((part, "raises") for part in PARTS), ("feed", "returns")])
async def test_under_load_the_daemon_ends_with_the_cause_once_its_callers_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, how: str
) -> None:
    fault, answers = Fault(part, how), list[Reason | None]()
    async with serving(tmp_path, fault, monkeypatch) as served:
        task_id = await asyncio.to_thread(served.broker.begin_task)
        loading = asyncio.create_task(load(served.broker, task_id, answers))
        async with asyncio.timeout(LONG):
            while len(answers) < 3:  # noqa: ASYNC110 (calls in a row, and nothing that would say so)
                await asyncio.sleep(0.01)
        fault.strike.set()
        ended = await served.outcome()
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
    assert isinstance(ended, PartEnded)
    assert f"`{part}`" in str(ended)
    assert SAYS[how] in str(ended)
    assert set(answers) <= {None, Reason.UNAVAILABLE}, "nobody was told nonsense"


async def test_under_load_a_writer_that_fails_ends_the_daemon_and_leaves_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_tasks: TaskCache, _changed: object) -> None:
        raise ZeroDivisionError("a copy cannot be kept")

    answers = list[Reason | None]()
    async with serving(tmp_path, Fault("nobody", "raises"), monkeypatch) as served:
        task_id = await asyncio.to_thread(served.broker.begin_task)
        loading = [asyncio.create_task(load(served.broker, task_id, answers)) for _ in range(3)]
        async with asyncio.timeout(LONG):
            while len(answers) < 3:  # noqa: ASYNC110 (as above)
                await asyncio.sleep(0.01)
        other = await asyncio.to_thread(served.broker.begin_task)
        monkeypatch.setattr(TaskCache, "update", broken)
        async with Client(served.broker.address, served.broker.svids / "orchestrator") as orchestrator:
            await orchestrator.end_task(other, TaskState.COMPLETED)  # is durable, and its caller told
        ended = await served.outcome()
        for calls in loading:
            calls.cancel()
        await asyncio.gather(*loading, return_exceptions=True)
    assert isinstance(ended, PartEnded)
    assert "`ledger-writer` has ended: ZeroDivisionError" in str(ended)
    assert set(answers) <= {None, Reason.UNAVAILABLE}


async def test_when_a_part_is_cancelled_no_verifier_is_fresh_one_window_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = Fault("probe", "is cancelled")
    async with serving(tmp_path, fault, monkeypatch) as served:
        token = (await asyncio.to_thread(served.broker.issue, 1))[0]
        verifier, endpoint = Verifier(RESOURCE), Endpoint.of(served.broker.address, served.broker.svids / "verifier")
        async with watching(verifier, endpoint):
            assert verdict(verifier, token) is None
            fault.strike.set()
            struck = time.monotonic()
            ended = await served.outcome()
            await asyncio.sleep(max(0.0, struck + FRESHNESS.total_seconds() + 0.5 - time.monotonic()))
            assert verdict(verifier, token) is Reason.VERIFIER_STALE
    assert isinstance(ended, PartEnded)
    assert "`probe` has ended: it was cancelled" in str(ended)


def verdict(verifier: Verifier, token: str) -> Reason | None:
    try:
        verifier.check(token, TOOL, {}, Presentation(spiffe_id=AGENT))
    except Refusal as refusal:
        return refusal.reason
    return None


@pytest.mark.parametrize("part", ["feed", "marks", "schedule"])
@pytest.mark.parametrize("how", SAYS)
async def test_at_start_the_daemon_ends_with_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, how: str
) -> None:
    fault = Fault(part, how)
    fault.strike.set()
    async with serving(tmp_path, fault, monkeypatch) as served:
        ended = await served.outcome()
    assert isinstance(ended, PartEnded)
    assert f"`{part}`" in str(ended)


async def test_a_feed_that_hangs_at_start_lets_nobody_watch_and_the_daemon_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = Fault("feed", "hangs")
    fault.strike.set()
    async with serving(tmp_path, fault, monkeypatch) as served:
        await asyncio.to_thread(served.broker.begin_task)
        os.kill(os.getpid(), signal.SIGTERM)
        ended = await served.outcome()
    assert isinstance(ended, PartEnded)
    assert "`feed` does not end" in str(ended)


@pytest.mark.parametrize("part", ["feed", "marks", "schedule"])
@pytest.mark.parametrize(("how", "says"), [("raises", "ZeroDivisionError"), ("hangs", "does not end")])
async def test_at_shutdown_what_goes_wrong_is_what_the_daemon_ends_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, how: str, says: str
) -> None:
    fault = Fault(part, how, at_shutdown=True)
    async with serving(tmp_path, fault, monkeypatch) as served:
        await asyncio.to_thread(served.broker.begin_task)
        os.kill(os.getpid(), signal.SIGTERM)
        ended = await served.outcome()
    assert isinstance(ended, PartEnded)
    assert f"`{part}`" in str(ended)
    assert says in str(ended)


async def test_without_a_fault_it_stops_without_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(tmp_path, Fault("nobody", "raises"), monkeypatch) as served:
        await asyncio.to_thread(served.broker.begin_task)
        os.kill(os.getpid(), signal.SIGTERM)
        assert await served.outcome() is None


async def test_who_tells_it_to_stop_while_it_waits_for_another_that_upgrades_is_heard(
    tmp_path: Path, postgresql_with_schema: Callable[[], str]
) -> None:
    url = postgresql_with_schema()
    engine = create_engine(url)
    with engine.connect() as upgrading:
        upgrading.execute(text("SELECT pg_advisory_xact_lock(4201987)"))
        settings = replace(prepare(tmp_path).settings(), database_url=url)
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(LONG):
            await daemon.serve(settings, lambda _ready: None, over=upgrading.rollback)
    engine.dispose()


async def test_a_start_that_fails_when_the_doors_are_open_closes_them(tmp_path: Path) -> None:
    served: list[Ready] = []

    def fail(ready: Ready) -> None:
        served.append(ready)
        raise BrokenPipeError("nobody reads what is said of it")

    with pytest.raises(BrokenPipeError) as failure:
        await daemon.serve(prepare(tmp_path).settings(), fail)
    assert failure.tb is not None  # which holds whatever was made at the start
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", served[0].port)


HANGING = """
import sys, time
from pathlib import Path
from broker import daemon
from broker.store.marks import Marks
daemon._END_WITHIN_SECONDS = 2.0
Marks.catch_up = lambda marks: time.sleep(1_000)
folder = Path(sys.argv[1])
"""
STARTS = {
    "credbroker serve": "from broker.cli import cli; cli(['serve', '--config', str(folder / 'broker.toml')])",
    "a sandbox": "from broker.sandbox.serving import serve; serve(folder)",
}


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_a_disk_that_does_not_answer_holds_up_no_shutdown_and_the_log_says_where_it_stood(
    tmp_path: Path, start: str
) -> None:
    deployment, log = prepare(tmp_path), tmp_path / "log"
    configured = deployment.configuration.read_text().replace("127.0.0.1:8443", "127.0.0.1:0")
    deployment.configuration.write_text(configured)
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", HANGING + start, tmp_path], stdout=subprocess.DEVNULL, stderr=stderr
        )
        try:
            until = time.monotonic() + LONG
            while "daemon.ready" not in log.read_text():
                assert time.monotonic() < until
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            assert process.wait(LONG) == 1
        finally:
            process.kill()
            process.wait()
    assert "Timeout" in log.read_text()
