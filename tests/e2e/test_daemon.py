"""The daemon in bad luck: told to stop, out of disk, without its database, wrongly set up."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sqlalchemy import create_engine, insert, literal, text

from broker.api import descriptors
from broker.model.errors import Reason, Refusal
from broker.model.grant import Grant
from broker.model.task import TaskState
from broker.sandbox.broker import AGENT, RESOURCE, TOOL, Broker, prepare, running
from broker.sdk.client.client import Client
from broker.sdk.client.sync import SyncClient
from broker.sdk.connect.connection import connect, connect_sync
from broker.sdk.connect.endpoint import Endpoint
from broker.sdk.verify.presentation import Presentation
from broker.sdk.verify.verifier import Verifier
from broker.sdk.verify.watching import watching
from broker.store.schema import leases
from broker.store.verification import verify
from tests.support.tables import bring_back, take_away
from tests.support.waiting import wait_for

GRANTS = [Grant(TOOL)]


def alive(pid: int) -> bool:
    """Report whether a process runs; a child that has ended and was not waited for does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def pid_of(broker: Broker) -> int:
    assert broker.pid is not None
    return broker.pid


async def test_told_to_stop_it_finishes_what_it_has_begun_and_lets_verifiers_go(tmp_path: Path) -> None:
    with running(tmp_path) as broker:
        task_id = broker.begin_task()
        endpoint = Endpoint.of(broker.address, broker.svids / "verifier")
        async with (
            watching(Verifier(RESOURCE), endpoint) as verifier,
            Client(broker.address, broker.svids / "researcher", timeout=3) as agent,
            connect(broker.address, broker.svids / "researcher") as channel,
        ):
            health = health_pb2_grpc.HealthStub(channel)
            states = health.Watch(health_pb2.HealthCheckRequest())
            assert (await states.read()).status == health_pb2.HealthCheckResponse.SERVING
            issuing = [asyncio.create_task(agent.issue(task_id, RESOURCE, GRANTS)) for _ in range(100)]
            await asyncio.wait(issuing, return_when=asyncio.FIRST_COMPLETED)
            began = time.monotonic()
            os.kill(pid_of(broker), signal.SIGTERM)
            assert (await states.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            outcomes = await asyncio.gather(*issuing, return_exceptions=True)
            await asyncio.to_thread(wait_for, lambda: not alive(pid_of(broker)))
            assert time.monotonic() - began < 8
            issued = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
            refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
            assert all(isinstance(error, Refusal) and error.reason is Reason.UNAVAILABLE for error in refused)
            assert issued
            verifier.check(
                issued[0].token.reveal(), TOOL, {}, Presentation(spiffe_id=AGENT)
            )  # it lives without its broker, for a while
    assert verify(f"sqlite:///{tmp_path / 'broker.db'}").ok


def test_out_of_disk_there_is_no_credential_and_no_restart_is_needed(tmp_path: Path) -> None:
    with running(tmp_path) as broker:
        task_id = broker.begin_task()
        with SyncClient(broker.address, broker.svids / "researcher", timeout=3) as agent:
            lease_id = agent.issue(task_id, RESOURCE, GRANTS).lease_id
            largest = max(file.stat().st_size for file in tmp_path.glob("broker.db*"))
            unlimited = resource.prlimit(pid_of(broker), resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
            wait_for(lambda: not _issues(agent, task_id))
            with pytest.raises(Refusal) as refused:
                agent.issue(task_id, RESOURCE, GRANTS)
            assert refused.value.reason is Reason.LEDGER_UNAVAILABLE
            wait_for(lambda: not is_well(broker))
            with contextlib.suppress(Refusal):
                agent.release(lease_id)  # which may take what room is kept for it
            resource.prlimit(pid_of(broker), resource.RLIMIT_FSIZE, unlimited)
            assert agent.issue(task_id, RESOURCE, GRANTS).lease_id
            agent.release(lease_id)
        assert (tmp_path / "broker.log").read_text().count("ledger.unavailable") >= 2
    assert verify(f"sqlite:///{tmp_path / 'broker.db'}").ok


@pytest.mark.postgres
def test_without_its_database_there_is_no_credential_and_no_restart_is_needed(
    tmp_path: Path, postgresql: str, new_postgresql_url: Callable[[], str]
) -> None:
    deployment = prepare(tmp_path)
    url = new_postgresql_url().replace("postgresql+psycopg", "postgresql")
    configured = deployment.configuration.read_text()
    deployment.configuration.write_text(re.sub(r'url = "broker.db"', f'url = "{url}"', configured))
    name = url.partition("?")[0].rpartition("/")[2]
    admin = create_engine(postgresql, isolation_level="AUTOCOMMIT")

    def allow(connections: bool) -> None:
        with admin.connect() as connection:
            connection.execute(text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {str(connections).lower()}'))
            if not connections:
                found = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")
                connection.execute(found, {"name": name})

    with running(tmp_path) as broker:
        task_id = broker.begin_task()
        with SyncClient(broker.address, broker.svids / "researcher", timeout=3) as agent:
            assert agent.issue(task_id, RESOURCE, GRANTS).lease_id
            allow(False)
            for _ in range(3):
                with pytest.raises(Refusal) as refused:
                    agent.issue(task_id, RESOURCE, GRANTS)
                assert refused.value.reason is Reason.LEDGER_UNAVAILABLE
            wait_for(lambda: not is_well(broker))
            allow(True)
            wait_for(lambda: _issues(agent, task_id))
            wait_for(lambda: is_well(broker), 20)
        with SyncClient(broker.address, broker.svids / "orchestrator") as orchestrator:
            orchestrator.end_task(task_id, TaskState.COMPLETED)
    assert verify(url).ok
    admin.dispose()


async def test_health_tells_what_is_so_of_each_service_though_nobody_calls(tmp_path: Path) -> None:
    """What the writer and the feed need is away."""
    with running(tmp_path) as broker:
        async with connect(broker.address, broker.svids / "auditor") as channel:
            health = health_pb2_grpc.HealthStub(channel)
            names = ["", *(service.full_name for service in descriptors.ALL)]
            watches = [health.Watch(health_pb2.HealthCheckRequest(service=name)) for name in names]

            async def said() -> set[object]:
                async with asyncio.timeout(30):
                    return {(await watch.read()).status for watch in watches}

            assert await said() == {health_pb2.HealthCheckResponse.SERVING}
            take_away(tmp_path, "ledger_head")
            assert await said() == {health_pb2.HealthCheckResponse.NOT_SERVING}
            assert not is_well(broker)
            bring_back(tmp_path, "ledger_head")
            assert await said() == {health_pb2.HealthCheckResponse.SERVING}
            assert is_well(broker)
    assert (tmp_path / "broker.log").read_text().count("health.not_serving") == 1


def is_well(broker: Broker) -> bool:
    """Ask a broker for its health."""
    with connect_sync(broker.address, broker.svids / "auditor") as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _issues(agent: SyncClient, task_id: str) -> bool:
    try:
        return bool(agent.issue(task_id, RESOURCE, GRANTS).lease_id)
    except Refusal:
        return False


async def test_no_secret_is_in_the_log_or_the_database(tmp_path: Path) -> None:
    """Law 7, after a bit of everything: credentials, renewals, refusals, and tokens in the wrong places."""
    with running(tmp_path) as broker:
        task_id = broker.begin_task()
        tokens = broker.issue(3)
        async with Client(broker.address, broker.svids / "researcher") as agent:
            credential = await agent.issue(task_id, RESOURCE, GRANTS, explanation="because")
            tokens.append(credential.token.reveal())
            await agent.renew(credential)
            tokens.append(credential.token.reveal())
            for wrong in (
                agent.issue(tokens[0][:128], RESOURCE, GRANTS),
                agent.issue(task_id, tokens[0], GRANTS),
                agent.issue(task_id, RESOURCE, [Grant(tokens[0])]),
                agent.release(tokens[0]),
            ):
                with pytest.raises(Refusal):
                    await wrong
            await agent.release(credential.lease_id)
        async with connect(broker.address, broker.svids / "researcher") as channel:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/broker.v1/{tokens[0]}")
            with pytest.raises(grpc.aio.AioRpcError):
                await call(tokens[0].encode())
    kept = b"".join(file.read_bytes() for file in [*tmp_path.glob("broker.db*"), tmp_path / "broker.log"])
    for token in tokens:
        assert token.rpartition(".")[2].encode() not in kept
        assert token.encode() not in kept
    keys = [line for file in (tmp_path / "keys").glob("*.pem") for line in file.read_bytes().splitlines()[1:-1]]
    assert keys
    assert not any(line in kept for line in keys)


async def test_a_part_that_dies_ends_the_daemon_which_tells_why_and_keeps_nobody_fresh(tmp_path: Path) -> None:
    """A lease that cannot be read is nothing the scheduler could go on without: it ends, and the daemon with it."""
    with running(tmp_path) as broker:
        async with Client(broker.address, broker.svids / "researcher") as agent:  # the scheduler looks when this is due
            await agent.issue(broker.begin_task(), RESOURCE, GRANTS, lifetime=timedelta(seconds=6))
    with running(tmp_path) as broker:
        endpoint = Endpoint.of(broker.address, broker.svids / "verifier")
        async with watching(Verifier(RESOURCE), endpoint):
            engine = create_engine(f"sqlite:///{tmp_path / 'broker.db'}")
            with engine.begin() as connection:
                unreadable = {column.name: "0" for column in leases.columns} | {"grants": "nonsense"}
                connection.execute(insert(leases).values({name: literal(cell) for name, cell in unreadable.items()}))
            engine.dispose()
            await asyncio.to_thread(wait_for, lambda: not alive(pid_of(broker)), 90)
        ended = os.waitid(os.P_PID, pid_of(broker), os.WEXITED | os.WNOWAIT)
        assert ended is not None
        assert ended.si_status == 1
    log = (tmp_path / "broker.log").read_text()
    assert "daemon.part_ended" in log
    assert "JSONDecodeError" in log
