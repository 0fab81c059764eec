"""Whether a broker serves, by the standard health service (grpc.health.v1), which anybody may ask.

This imports gRPC, so commands import it when they run.
"""

from __future__ import annotations

import grpc

from broker.sdk.connect.connection import open_channel
from broker.sdk.connect.identity import Credentials
from broker.sdk.connect.refusals import refusal_from

_CHECK = "/grpc.health.v1.Health/Check"
_OF_THE_WHOLE = b""  # a HealthCheckRequest without a service
_SERVING = b"\x08\x01"  # a HealthCheckResponse
_SECONDS = 10.0


def serves(address: str, credentials: Credentials) -> bool:
    """Report whether the broker at an address says that it serves.

    Raises:
        Refusal: it says nothing.
    """
    with open_channel(address, credentials) as channel:
        check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_CHECK)
        try:
            return check(_OF_THE_WHOLE, timeout=_SECONDS) == _SERVING
        except grpc.RpcError as error:
            raise refusal_from(error) from None
