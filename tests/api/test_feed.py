"""The feed of revocations over the wire."""

from __future__ import annotations

import queue
from datetime import timedelta

import grpc
import pytest

from broker.model.errors import Reason, Refusal
from broker.revocation.feed import FRESHNESS
from broker.sdk.connect.refusals import refusal_from
from broker.v1 import verifier_service_pb2 as verifier_pb
from broker.v1 import verifier_service_pb2_grpc as verifier_grpc
from broker.wire.times import duration_from_wire
from tests.support.doors import Doors

CONFIRM = "VerifierService.ConfirmRevocations"
WATCH = verifier_pb.FollowRevocationsRequest(watch=verifier_pb.WatchRevocationsRequest())


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


def follow(doors: Doors, *messages: verifier_pb.FollowRevocationsRequest) -> list[verifier_pb.RevocationUpdate]:
    """Say some messages and no more; return what is answered until the stream ends."""
    stub = verifier_grpc.VerifierServiceStub(doors.channel("verifier"))
    try:
        return list(stub.FollowRevocations(iter(messages), timeout=60))
    except grpc.RpcError as error:
        raise refusal_from(error) from error


def applied(number: int, index: int) -> verifier_pb.FollowRevocationsRequest:
    return verifier_pb.FollowRevocationsRequest(applied=verifier_pb.Applied(number=number, index=index))


def test_a_confirmation_on_the_stream_is_answered_there(doors: Doors) -> None:
    said: queue.SimpleQueue[verifier_pb.FollowRevocationsRequest | None] = queue.SimpleQueue()
    said.put(WATCH)
    stub = verifier_grpc.VerifierServiceStub(doors.channel("verifier"))
    stream = stub.FollowRevocations(iter(said.get, None), timeout=60)
    index = next(stream).index
    for number in (7, 8):
        said.put(applied(number, index))
        confirmed = next(update.confirmed for update in stream if update.HasField("confirmed"))
        assert confirmed.number == number
        assert timedelta(0) < duration_from_wire(confirmed.freshness, "freshness") <= FRESHNESS
    said.put(None)
    assert not any(update.HasField("confirmed") for update in stream), "and it ends with what we say"


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "watch"),
        ([verifier_pb.FollowRevocationsRequest()], "watch"),
        ([applied(1, 0)], "watch"),
        ([WATCH, WATCH], "applied"),
        ([WATCH, verifier_pb.FollowRevocationsRequest()], "applied"),
    ],
)
def test_what_is_said_on_a_stream_has_its_order(
    doors: Doors, messages: list[verifier_pb.FollowRevocationsRequest], field: str
) -> None:
    with pytest.raises(Refusal) as refused:
        follow(doors, *messages)
    assert refused.value.reason is Reason.INVALID_ARGUMENT
    assert [violation.field for violation in refused.value.violations] == [field]


def test_bytes_that_are_no_message_end_a_stream(doors: Doors) -> None:
    path = "/broker.v1.VerifierService/FollowRevocations"
    call: grpc.StreamStreamMultiCallable[bytes, bytes] = doors.channel("verifier").stream_stream(path)
    with pytest.raises(grpc.RpcError) as error:
        list(call(iter([WATCH.SerializeToString(), b"\xff\xff"]), timeout=60))
    assert [violation.field for violation in refusal_from(error.value).violations] == ["request"]


def test_a_stream_ends_at_its_deadline(doors: Doors) -> None:
    stub = verifier_grpc.VerifierServiceStub(doors.channel("verifier"))
    with pytest.raises(grpc.RpcError) as error:
        list(stub.WatchRevocations(verifier_pb.WatchRevocationsRequest(), timeout=0.5))
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
