"""A refusal survives the wire, and code that has never heard of us can read it."""

from google.protobuf.any_pb2 import Any as PackedAny
from google.rpc import code_pb2, error_details_pb2, status_pb2  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from broker.model.errors import FieldViolation, Hints, Reason, Refusal
from broker.v1 import status_pb2 as ours
from broker.wire.codes import grpc_code
from broker.wire.status import DOMAIN, from_status_bytes, to_status_bytes

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
refusals = st.builds(
    Refusal,
    st.sampled_from(Reason),
    texts,
    st.builds(
        Hints,
        missing=texts,
        next=texts,
        policy_revision=texts,
        decision_id=texts,
        retry_seconds=st.integers(0, 999_999_999),
        lease_state=st.sampled_from(["", "expired", "revoked"]),
    ),
    st.lists(st.builds(FieldViolation, texts, texts), max_size=4).map(tuple),
)


def bytes_of(refusal: Refusal) -> bytes:
    return to_status_bytes(refusal, grpc_code(refusal.reason))


@given(refusals)
def test_a_refusal_comes_back_as_it_was(refusal: Refusal) -> None:
    back = from_status_bytes(bytes_of(refusal))
    assert back is not None
    assert (back.reason, back.message, back.hints) == (refusal.reason, refusal.message, refusal.hints)
    assert tuple(back.violations) == tuple(refusal.violations)


def test_stock_googleapis_code_reads_it() -> None:
    refusal = Refusal(
        Reason.INVALID_ARGUMENT,
        "grants[0].tool: is required",
        Hints(missing="tool:read_file", decision_id="d-1"),
        (FieldViolation("grants[0].tool", "is required"),),
    )
    status = status_pb2.Status.FromString(bytes_of(refusal))
    assert (status.code, status.message) == (code_pb2.INVALID_ARGUMENT, "grants[0].tool: is required")

    info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("INVALID_ARGUMENT", DOMAIN)
    assert dict(info.metadata) == {"missing": "tool:read_file", "decisionId": "d-1"}
    assert status.details[1].Unpack(bad_request)
    assert [(found.field, found.description) for found in bad_request.field_violations] == [
        ("grants[0].tool", "is required")
    ]


def test_without_violations_there_is_no_bad_request() -> None:
    status = ours.Status.FromString(bytes_of(Refusal(Reason.LOCKED, "a lock stands in the way")))
    assert [detail.type_url for detail in status.details] == ["type.googleapis.com/google.rpc.ErrorInfo"]


@given(st.binary(max_size=200))
def test_what_is_not_ours_is_not_taken_for_ours(data: bytes) -> None:
    found = from_status_bytes(data)
    assert found is None or isinstance(found, Refusal)


def test_an_error_of_another_domain_or_an_unknown_reason_is_not_ours() -> None:
    for reason, domain in (("LOCKED", "example.org"), ("NEVER_HEARD_OF", DOMAIN), ("", DOMAIN)):
        packed = PackedAny()
        packed.Pack(error_details_pb2.ErrorInfo(reason=reason, domain=domain))
        assert from_status_bytes(status_pb2.Status(code=9, details=[packed]).SerializeToString()) is None
