"""What must be dead at once and cannot be recorded: its tenant's verifiers accept nothing, until it is revoked."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import grpc
import pytest

from broker.cli.unverified import decode
from broker.model.errors import Reason, Refusal
from broker.revocation.feed import FRESHNESS
from broker.sandbox.broker import RESOURCE, Broker
from broker.sdk.connect.connection import connect
from broker.sdk.connect.endpoint import Endpoint
from broker.sdk.connect.refusals import refusal_from
from broker.sdk.verify.verifier import Verifier
from broker.sdk.verify.watching import watching
from broker.v1 import operator_service_pb2 as pb
from broker.v1 import verifier_service_pb2 as verifier_pb
from broker.v1.operator_service_pb2_grpc import OperatorServiceStub
from broker.v1.selector_pb2 import Selector
from broker.v1.verifier_service_pb2_grpc import VerifierServiceStub
from tests.faults.history import refusal_of
from tests.faults.scene import on_file
from tests.faults.table import FAULTS
from tests.support.fakes import eventually

LOCKED = next(fault for fault in FAULTS if fault.name == "file locked")


async def revoke(broker: Broker, token: str, *, or_stop_freshness: bool = False) -> Refusal | None:
    """Revoke a token's lease; return the refusal, if there is one."""
    selector = Selector(tenant="acme", lease_id=decode(token).claims["jti"])
    request = pb.RevokeLeasesRequest(selector=selector, reason="leaked", or_stop_freshness=or_stop_freshness)
    async with connect(broker.address, broker.svids / "operator") as channel:
        try:
            await OperatorServiceStub(channel).RevokeLeases(request, timeout=20)
        except grpc.aio.AioRpcError as error:
            return refusal_from(error)
    return None


async def introspected(broker: Broker, token: str) -> Reason | bool:
    """Ask the broker whether a token is good."""
    async with connect(broker.address, broker.svids / "verifier") as channel:
        request = verifier_pb.IntrospectCredentialRequest(token=token)
        try:
            return (await VerifierServiceStub(channel).IntrospectCredential(request, timeout=5)).active
        except grpc.aio.AioRpcError as error:
            return refusal_from(error).reason


@pytest.mark.slow
async def test_when_a_revocation_cannot_be_recorded_an_operator_can_stop_all_of_the_tenants_verifiers(
    tmp_path: Path,
) -> None:
    with on_file(tmp_path) as scene:
        broker = scene.broker
        leaked, good, other = await asyncio.to_thread(broker.issue, 3)
        async with watching(Verifier(RESOURCE), Endpoint.of(broker.address, broker.svids / "verifier")) as verifier:
            async with LOCKED.inflicted(scene):
                refused = await revoke(broker, leaked)
                assert refused is not None
                assert refused.reason is Reason.LEDGER_UNAVAILABLE
                assert "or_stop_freshness" in refused.hints.next
                assert refusal_of(verifier, leaked) is None
                stopped = await revoke(broker, leaked, or_stop_freshness=True)
                began = time.monotonic()
                assert stopped is not None
                assert "no verifier of `acme`" in stopped.message
                await eventually(lambda: refusal_of(verifier, leaked) is Reason.VERIFIER_STALE, 30)
                assert time.monotonic() - began < FRESHNESS.total_seconds() + 1
                assert refusal_of(verifier, good) is Reason.VERIFIER_STALE
                assert await introspected(broker, good) is Reason.UNAVAILABLE
            # The ledger can be written again, and still nothing is accepted before it says what was to be said.
            assert await revoke(broker, other) is None
            assert await introspected(broker, good) is Reason.UNAVAILABLE
            assert refusal_of(verifier, good) is Reason.VERIFIER_STALE
            assert await revoke(broker, leaked) is None
            await eventually(lambda: refusal_of(verifier, good) is None, 30)
            assert refusal_of(verifier, leaked) is Reason.TOKEN_REVOKED
            assert await introspected(broker, good) is True
