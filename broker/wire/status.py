"""Refusals as google.rpc.Status, with ErrorInfo and BadRequest: what stock clients read, without their package."""

from __future__ import annotations

import re

from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError, Message

from broker.model.errors import FieldViolation, Hints, Reason, Refusal
from broker.v1 import status_pb2 as pb

DOMAIN = "credbroker"
_SECONDS = re.compile(r"[0-9]{1,9}")
_TYPE_URL = "type.googleapis.com/google.rpc."


def to_status_bytes(refusal: Refusal, code: int) -> bytes:
    """Return the value of the trailing metadata `grpc-status-details-bin`."""
    details: list[Message] = [
        pb.ErrorInfo(reason=refusal.reason.value, domain=DOMAIN, metadata=refusal.hints.metadata())
    ]
    if refusal.violations:
        violations = [
            pb.BadRequest.FieldViolation(field=violation.field, description=violation.description)
            for violation in refusal.violations
        ]
        details.append(pb.BadRequest(field_violations=violations))
    packed = [Any(type_url=_TYPE_URL + type(d).DESCRIPTOR.name, value=d.SerializeToString()) for d in details]
    return pb.Status(code=code, message=refusal.message, details=packed).SerializeToString()


def from_status_bytes(data: bytes) -> Refusal | None:
    """Read a refusal of ours; None if it is not one."""
    info, bad_request = pb.ErrorInfo(), pb.BadRequest()
    try:
        status = pb.Status.FromString(data)
        for detail in status.details:
            if detail.type_url == _TYPE_URL + "ErrorInfo":
                info.ParseFromString(detail.value)
            elif detail.type_url == _TYPE_URL + "BadRequest":
                bad_request.ParseFromString(detail.value)
        if info.domain != DOMAIN:
            return None
        reason = Reason(info.reason)
    except (DecodeError, ValueError):
        return None
    hints = Hints(
        missing=info.metadata.get("missing", ""),
        next=info.metadata.get("next", ""),
        policy_revision=info.metadata.get("policyRevision", ""),
        decision_id=info.metadata.get("decisionId", ""),
        retry_seconds=_seconds(info.metadata.get("retrySeconds", "")),
        lease_state=info.metadata.get("leaseState", ""),
    )
    violations = tuple(FieldViolation(found.field, found.description) for found in bad_request.field_violations)
    return Refusal(reason, status.message, hints, violations)


def _seconds(text: str) -> int:
    return int(text) if _SECONDS.fullmatch(text) else 0
