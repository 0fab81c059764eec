"""Bytes that are no message are refused, whatever they are."""

from __future__ import annotations

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.model.errors import Reason
from tests.support.doors import METHODS, Doors

PEOPLE = {"Agent": "researcher", "Orchestrator": "orchestrator", "Operator": "operator", "Verifier": "verifier"}


def who_calls(path: str) -> str:
    return PEOPLE.get(path.split(".")[2].partition("Service")[0], "auditor")


@pytest.mark.parametrize("path", sorted(METHODS))
def test_bytes_that_are_no_message_are_refused(doors: Doors, path: str) -> None:
    refusal = doors.refused(who_calls(path), path.removeprefix("/broker.v1.").replace("/", "."), b"\xff\xff\xff")
    assert refusal.reason is Reason.INVALID_ARGUMENT
    assert [violation.field for violation in refusal.violations] == ["request"]


@settings(max_examples=60)
@given(data=st.binary(max_size=80), path=st.sampled_from(sorted(METHODS)))
def test_no_bytes_bring_it_down(doors: Doors, data: bytes, path: str) -> None:
    if METHODS[path].server_streaming:
        return
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = doors.channel(who_calls(path)).unary_unary(path)
    try:
        call(data, timeout=60)
    except grpc.RpcError as error:
        code = error.code()
        assert code is not grpc.StatusCode.UNKNOWN
        assert code is not grpc.StatusCode.UNAVAILABLE
