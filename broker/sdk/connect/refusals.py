"""What the broker says no with, as the exception that the rest of the SDK raises."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import grpc

from broker.model.errors import Hints, Reason, Refusal
from broker.wire.status import from_status_bytes

_LOST = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,  # a stream that was reset, by HTTP/2's codes; the broker's own failures have its words
    grpc.StatusCode.UNKNOWN,
)
_DETAILS = "grpc-status-details-bin"


def refusal_from(error: grpc.RpcError) -> Refusal:
    """Return the refusal in a failed call; what is not the broker's own words becomes UNAVAILABLE or INTERNAL."""
    if (said := words_of_the_broker(error)) is not None:
        return said
    code, details = error.code(), error.details()
    if code in _LOST:
        return Refusal(
            Reason.UNAVAILABLE,
            f"the broker cannot be reached: {details}",
            Hints(next="check the address, that the broker runs, and that both sides trust each other's certificates"),
        )
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Refusal(Reason.INVALID_ARGUMENT, f"the request was not accepted: {details}")
    return Refusal(Reason.INTERNAL, f"the call failed with {code.name}: {details}")


def words_of_the_broker(error: grpc.RpcError) -> Refusal | None:
    """Return the refusal that the broker has put into a failed call; None if it was not the broker who failed it."""
    # Both kinds of call give pairs, whatever grpcio's types say.
    for name, value in cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ()):
        if name == _DETAILS and isinstance(value, bytes) and (refusal := from_status_bytes(value)) is not None:
            return refusal
    return None
