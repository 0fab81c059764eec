"""Agents whose broker restarts, is killed, stands still, or cannot be reached: calls wait, credentials come back."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from broker.cli.unverified import decode
from broker.identity.spiffe import parse_spiffe_id
from broker.model.errors import Refusal
from broker.model.grant import Grant
from broker.model.selector import Selector, Target
from broker.model.task import TaskState
from broker.sandbox import authority
from broker.sandbox.broker import AGENT, RESOURCE, TOOL, Broker, prepare
from broker.sandbox.ports import free_port
from broker.sandbox.process import process, read_line
from broker.sdk.client.client import Client
from broker.sdk.client.credential import Credential
from broker.sdk.client.keeping import Event
from broker.sdk.connect.connection import connect
from broker.sdk.connect.svid import SvidFolder
from broker.store import leases
from broker.store.database import open_database
from broker.store.verification import verify
from broker.system import system_clock
from broker.v1 import operator_service_pb2 as operator_pb
from broker.v1 import operator_service_pb2_grpc, selector_pb2
from tests.support.cutter import cuttable
from tests.support.fakes import eventually

GRANTS = [Grant(TOOL)]
LONG = 60.0  # seconds: however busy the machine is


class House:
    """A broker that can be ended and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.svids = prepare(folder).svids
        self.broker = Broker(f"localhost:{self.port}", self.svids)

    @contextmanager
    def up(self) -> Iterator[int]:
        """Run it for the time of a block; give its process."""
        log = self.folder / "broker.log"
        command = [sys.executable, "-m", "broker", "dev", "--dir", str(self.folder), "--port", str(self.port)]
        with process(command, log) as popen:
            read_line(popen, log)
            yield popen.pid

    @asynccontextmanager
    async def running(self) -> AsyncIterator[int]:
        """Run it beside the event loop; else as `up`."""
        up = self.up()
        pid = await asyncio.to_thread(up.__enter__)
        try:
            yield pid
        finally:
            await asyncio.to_thread(up.__exit__, None, None, None)

    def agent(self, address: str = "", svid: str = "researcher") -> Client:
        return Client(address or self.broker.address, self.svids / svid, timeout=LONG)

    async def begin_task(self) -> str:
        return await asyncio.to_thread(self.broker.begin_task)

    async def revoke(self, lease_id: str) -> None:
        async with connect(self.broker.address, self.svids / "operator") as channel:
            selector = selector_pb2.Selector(tenant="acme", lease_id=lease_id)
            request = operator_pb.RevokeLeasesRequest(selector=selector, reason="a drill")
            await operator_service_pb2_grpc.OperatorServiceStub(channel).RevokeLeases(request, timeout=LONG)

    def leases_of(self, task_id: str) -> list[str]:
        """Read the leases of a task from the database."""
        database = open_database(str(self.folder / "broker.db"))
        selector = Selector("acme", Target.TASK, task_id)
        try:
            found = database.read_now(lambda connection: leases.page(connection, selector, None, None, 10_000))
        finally:
            database.close()
        return [lease.id for lease in found]


class Told:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, _credential: Credential, event: Event, _error: Refusal | OSError | None) -> None:
        self.events.append(event)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_calls_wait_for_a_restart_and_nothing_is_done_twice(house: House, number: signal.Signals) -> None:
    issued: list[str] = []
    enough = asyncio.Event()

    async def work(task_id: str) -> None:
        async with house.agent() as agent:
            while not enough.is_set():
                issued.append((await agent.issue(task_id, RESOURCE, GRANTS)).lease_id)
                await asyncio.sleep(0.02)

    async with house.running() as pid:
        task_id = await house.begin_task()
        working = [asyncio.create_task(work(task_id)) for _ in range(8)]
        await eventually(lambda: len(issued) >= 20, LONG)
        os.kill(pid, number)
    for _ in range(2):
        async with house.running() as pid:
            before = len(issued)
            await eventually(lambda before=before: len(issued) >= before + 20, LONG)
            os.kill(pid, number)
    async with house.running():
        enough.set()
        await asyncio.gather(*working)  # no call was refused
        assert sorted(house.leases_of(task_id)) == sorted(issued)
    assert verify(str(house.folder / "broker.db")).ok


@pytest.mark.slow
async def test_a_kill_in_the_middle_of_any_call_fails_none(house: House) -> None:
    lives: list[tuple[str, str]] = []
    enough = asyncio.Event()

    async def live(orchestrator: Client, agent: Client) -> None:
        task_id = (await orchestrator.create_task(house.broker.declaration())).id
        credential = await agent.issue(task_id, RESOURCE, GRANTS)
        await agent.renew(credential)
        assert await agent.release(credential.lease_id)
        assert await orchestrator.end_task(task_id, TaskState.COMPLETED, barrier=True)
        lives.append((task_id, credential.lease_id))

    async def work() -> None:
        async with house.agent(svid="orchestrator") as orchestrator, house.agent() as agent:
            while not enough.is_set():
                await live(orchestrator, agent)

    working = [asyncio.create_task(work()) for _ in range(4)]
    for _ in range(3):
        async with house.running() as pid:
            before = len(lives)
            await eventually(lambda before=before: len(lives) >= before + 8, LONG)
            os.kill(pid, signal.SIGKILL)
    async with house.running():
        enough.set()
        await asyncio.gather(*working)  # no call was refused
        assert all(house.leases_of(task_id) == [lease_id] for task_id, lease_id in lives)
    assert verify(str(house.folder / "broker.db")).ok


async def test_an_answer_that_gets_lost_is_asked_for_again_and_nothing_is_done_twice(house: House) -> None:
    async with house.running(), cuttable(house.port) as wire, house.agent(wire.address) as agent:
        task_id = await house.begin_task()
        for _ in range(3):
            await agent.issue(task_id, RESOURCE, GRANTS)  # there is a connection
            before = len(house.leases_of(task_id))
            wire.lose_answers()
            issuing = asyncio.create_task(agent.issue(task_id, RESOURCE, GRANTS))
            await eventually(lambda before=before: len(house.leases_of(task_id)) > before, LONG)
            wire.mend()
            assert (await issuing).lease_id in house.leases_of(task_id)
            assert len(house.leases_of(task_id)) == before + 1


@pytest.mark.slow
async def test_a_broker_that_stands_still_is_waited_for(house: House) -> None:
    async with house.running() as pid, house.agent() as agent:
        task_id = await house.begin_task()
        await agent.issue(task_id, RESOURCE, GRANTS)
        os.kill(pid, signal.SIGSTOP)
        issuing = asyncio.create_task(agent.issue(task_id, RESOURCE, GRANTS))
        await asyncio.sleep(12)  # longer than one attempt
        os.kill(pid, signal.SIGCONT)
        assert (await issuing).lease_id in house.leases_of(task_id)
        assert len(house.leases_of(task_id)) == 2


async def test_a_held_credential_comes_back_after_an_outage_that_was_longer_than_its_life(house: House) -> None:
    told = Told()
    async with house.running():
        task_id = await house.begin_task()
        agent = await house.agent().__aenter__()
        agent._timeout = 2.0  # so that it gives up for now
        holding = agent.credential(task_id, RESOURCE, GRANTS, lifetime=timedelta(seconds=3), tell=told)
        credential = await holding.__aenter__()
        first = credential.lease_id
    await eventually(lambda: credential.expires_at < system_clock(), LONG)
    await eventually(lambda: Event.FAILING in told.events, LONG)
    async with house.running():
        await eventually(lambda: credential.expires_at > system_clock(), LONG)
        assert credential.lease_id != first
        assert credential.ended is None
        await holding.__aexit__(None, None, None)
        await agent.__aexit__()
    assert [event for event in told.events if event is not Event.RENEWED] == [Event.FAILING, Event.REISSUED]


async def test_one_that_was_revoked_while_its_holder_was_cut_off_does_not_come_back(house: House) -> None:
    told = Told()
    async with house.running(), cuttable(house.port) as wire, house.agent(wire.address) as agent:
        agent._timeout = 1.0
        task_id = await house.begin_task()
        wished = agent.credential(task_id, RESOURCE, GRANTS, lifetime=timedelta(seconds=4), tell=told)
        async with wished as credential:
            wire.cut()
            await house.revoke(credential.lease_id)
            await eventually(lambda: credential.expires_at < system_clock(), LONG)
            wire.mend()
            await eventually(lambda: credential.ended is not None, LONG)
        assert told.events[-1] is Event.ENDED
        assert house.leases_of(task_id) == [credential.lease_id]


async def test_a_holder_whose_svid_is_late_gets_its_credential_back_when_it_has_come(house: House) -> None:
    def write_svid(lifetime: timedelta) -> None:
        authority.issue(house.svids, "late", parse_spiffe_id(AGENT), (), lifetime, system_clock())

    told = Told()
    async with house.running():
        task_id = await house.begin_task()
        write_svid(timedelta(seconds=8))
        async with house.agent(svid="late") as agent:
            agent._timeout = 2.0
            async with agent.credential(
                task_id, RESOURCE, GRANTS, lifetime=timedelta(seconds=6), tell=told
            ) as credential:
                first = credential.lease_id
                await eventually(lambda: Event.FAILING in told.events, LONG)
                await eventually(lambda: credential.expires_at < system_clock(), LONG)
                write_svid(timedelta(hours=1))
                await eventually(lambda: credential.expires_at > system_clock(), LONG)
                assert (credential.lease_id != first, credential.ended) == (True, None)


async def test_a_credential_that_is_bound_to_a_certificate_follows_its_rotation(house: House) -> None:
    def rotate() -> str:
        authority.issue(house.svids, "agent", parse_spiffe_id(AGENT), (), timedelta(hours=1), system_clock())
        return SvidFolder(house.svids / "agent").open().credentials().thumbprint()

    tools = house.folder / "bundle" / "tools.toml"
    tools.write_text(tools.read_text().replace('binding = "identity"', 'binding = "certificate"', 1))
    told, first = Told(), rotate()
    async with house.running():
        task_id = await house.begin_task()
        async with (
            house.agent(svid="agent") as agent,
            agent.credential(task_id, RESOURCE, GRANTS, tell=told) as credential,
        ):
            assert credential.certificate == first
            second = rotate()
            await eventually(lambda: credential.certificate == second, LONG)
            assert decode(credential.token.reveal()).claims["cnf"] == {"x5t#S256": second}
    assert told.events == [Event.REISSUED]


async def test_the_command_line_waits_for_a_restart_and_does_nothing_twice(house: House) -> None:
    async with house.running():
        task_id = await house.begin_task()
    command = ["credential", "issue", "--task", task_id, "--tool", f"{RESOURCE}#{TOOL}", "--timeout", "60s"]
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "broker", *command, "--out", str(house.folder / "token")),
        env=os.environ | house.broker.environment("researcher"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert started.stderr is not None
    told = (await started.stderr.readline()).decode()
    assert f"nothing can be reached at localhost:{house.port}" in told
    assert "trying again, for 60 seconds" in told
    async with house.running():
        _out, err = await started.communicate()
        assert (started.returncode, err) == (0, b"")
        assert len(house.leases_of(task_id)) == 1
