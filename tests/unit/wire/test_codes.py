"""Every reason has a code and a status, and the proto knows the same reasons."""

import grpc
import pytest

from broker.model.errors import Reason
from broker.v1 import error_reason_pb2
from broker.wire.codes import Code, grpc_code, http_status


def test_the_proto_enum_and_reason_name_the_same() -> None:
    names = {name.removeprefix("ERROR_REASON_") for name in error_reason_pb2.ErrorReason.keys()}  # noqa: SIM118 (an enum wrapper)
    assert names == {reason.value for reason in Reason} | {"UNSPECIFIED"}


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_a_code_and_a_status(reason: Reason) -> None:
    assert isinstance(grpc_code(reason), Code)
    assert 400 <= http_status(reason) < 600


def test_codes_are_those_of_grpc() -> None:
    known = {code.name: code.value[0] for code in grpc.StatusCode}
    assert {code.name: code.value for code in Code}.items() <= known.items()


@pytest.mark.parametrize(
    ("reason", "code", "status"),
    [
        (Reason.IDENTITY_MISSING, Code.UNAUTHENTICATED, 401),
        (Reason.TOKEN_REVOKED, Code.UNAUTHENTICATED, 401),
        (Reason.HOLDER_MISMATCH, Code.PERMISSION_DENIED, 403),
        (Reason.POLICY_ERROR, Code.PERMISSION_DENIED, 403),
        (Reason.LEASE_NOT_FOUND, Code.NOT_FOUND, 404),
        (Reason.LOCKED, Code.FAILED_PRECONDITION, 409),
        (Reason.REQUEST_ID_REUSED, Code.ALREADY_EXISTS, 409),
        (Reason.QUOTA_EXCEEDED, Code.RESOURCE_EXHAUSTED, 429),
        (Reason.INTERNAL, Code.INTERNAL, 500),
        (Reason.VERIFIER_STALE, Code.UNAVAILABLE, 503),
    ],
)
def test_a_reason_means_the_same_on_both_surfaces(reason: Reason, code: Code, status: int) -> None:
    assert (grpc_code(reason), http_status(reason)) == (code, status)
