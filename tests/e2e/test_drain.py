"""A broker that stops: who calls hears where to go, and who watches its health hears that it stops."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from broker import daemon
from broker.api import server
from broker.doors import Ready
from broker.model.errors import Reason
from broker.sandbox.broker import RESOURCE, TOOL, Broker, prepare, running
from broker.sdk.connect.connection import connect
from broker.sdk.connect.refusals import words_of_the_broker
from broker.v1 import agent_service_pb2 as pb
from broker.v1 import operator_service_pb2 as operator_pb
from broker.v1 import selector_pb2
from broker.v1 import verifier_service_pb2 as verifier_pb
from broker.v1.agent_service_pb2_grpc import AgentServiceStub
from broker.v1.grant_pb2 import Grant
from broker.v1.operator_service_pb2_grpc import OperatorServiceStub
from broker.v1.verifier_service_pb2_grpc import VerifierServiceStub

LONG = 60.0  # seconds: however busy the machine is
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
async def stopping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Broker]:
    """A broker in this process that does not get beyond telling that it stops."""
    monkeypatch.setattr(server, "_NEWS_SECONDS", LONG)
    ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
    deployment = prepare(tmp_path)
    serving = asyncio.create_task(daemon.serve(deployment.settings(), ready.set_result))
    broker = Broker(f"localhost:{(await asyncio.wait_for(ready, LONG)).port}", deployment.svids)
    async with connect(broker.address, broker.svids / "auditor") as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status != NOT_SERVING
        os.kill(os.getpid(), signal.SIGTERM)
        assert (await watch.read()).status == NOT_SERVING
        yield broker
    serving.cancel()
    await asyncio.wait([serving])


async def test_a_call_that_comes_too_late_is_refused_with_a_word_of_when_to_come_again(stopping: Broker) -> None:
    async with (
        connect(stopping.address, stopping.svids / "researcher") as agents,
        connect(stopping.address, stopping.svids / "verifier") as verifiers,
    ):
        request = pb.IssueCredentialRequest(task_id="t", resource=RESOURCE, grants=[Grant(tool=TOOL)])
        for call in (
            AgentServiceStub(agents).IssueCredential(request, timeout=LONG),
            VerifierServiceStub(verifiers).GetKeySet(verifier_pb.GetKeySetRequest(), timeout=LONG),
            VerifierServiceStub(verifiers).WatchRevocations(verifier_pb.WatchRevocationsRequest(), timeout=LONG).read(),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            words = words_of_the_broker(refused.value)
            assert words is not None
            assert (words.reason, words.hints.retry_seconds) == (Reason.UNAVAILABLE, 1)
            assert "another broker" in words.hints.next


@pytest.mark.slow
async def test_a_revocation_that_waits_for_its_barrier_is_answered_while_the_broker_stops(tmp_path: Path) -> None:
    with running(tmp_path) as broker:
        await asyncio.to_thread(broker.issue, 1)
        async with (
            connect(broker.address, broker.svids / "verifier") as verifiers,
            connect(broker.address, broker.svids / "operator") as operators,
        ):
            verifier, operator = VerifierServiceStub(verifiers), OperatorServiceStub(operators)
            watch = verifier.WatchRevocations(verifier_pb.WatchRevocationsRequest(), timeout=LONG)
            update = await watch.read()  # it hears of nothing more: it reads no further
            assert isinstance(update, verifier_pb.RevocationUpdate)
            everything = operator_pb.RevokeLeasesRequest(
                selector=selector_pb2.Selector(tenant="acme", everything=True), reason="a drill", barrier=True
            )
            newest = (await verifier.ConfirmRevocations(confirming(update.session_id, -1), timeout=LONG)).index
            await verifier.ConfirmRevocations(confirming(update.session_id, newest), timeout=LONG)
            revoking = operator.RevokeLeases(everything, timeout=LONG)
            while (await operator.ListLeases(operator_pb.ListLeasesRequest(live_only=True), timeout=LONG)).leases:
                pass
            assert broker.pid is not None
            os.kill(broker.pid, signal.SIGTERM)
            assert (await revoking).stale_verifiers == 1


def confirming(session: str, index: int) -> verifier_pb.ConfirmRevocationsRequest:
    return verifier_pb.ConfirmRevocationsRequest(session_id=session, index=index)
