"""The feed of revocations over the wire."""

from __future__ import annotations

import grpc
import pytest

from broker.model.errors import Reason
from broker.v1 import verifier_service_pb2 as verifier_pb
from broker.v1 import verifier_service_pb2_grpc as verifier_grpc
from tests.support.doors import Doors

CONFIRM = "VerifierService.ConfirmRevocations"


def test_a_feed_session_is_its_own_verifiers(doors: Doors) -> None:
    stub = verifier_grpc.VerifierServiceStub(doors.channel("verifier"))
    stream = stub.WatchRevocations(verifier_pb.WatchRevocationsRequest(), timeout=60)
    try:
        update = next(stream)
        mine = verifier_pb.ConfirmRevocationsRequest(session_id=update.session_id, index=update.index)
        assert doors.call("verifier", CONFIRM, mine).freshness.seconds > 0
        assert doors.refused("notes", CONFIRM, mine).reason is Reason.FEED_SESSION_UNKNOWN
    finally:
        stream.cancel()
    unknown = verifier_pb.ConfirmRevocationsRequest(session_id="0198f3c2", index=0)
    assert doors.refused("verifier", CONFIRM, unknown).reason is Reason.FEED_SESSION_UNKNOWN


def test_a_stream_ends_at_its_deadline(doors: Doors) -> None:
    stub = verifier_grpc.VerifierServiceStub(doors.channel("verifier"))
    with pytest.raises(grpc.RpcError) as error:
        list(stub.WatchRevocations(verifier_pb.WatchRevocationsRequest(), timeout=0.5))
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
