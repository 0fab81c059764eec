"""The operators of a bench, who revoke at each broker by turns."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle

import grpc

from broker.cli.unverified import decode
from broker.sandbox.broker import Broker
from broker.sdk.connect.connection import connect_sync
from broker.v1 import operator_service_pb2 as pb
from broker.v1.operator_service_pb2_grpc import OperatorServiceStub
from broker.v1.selector_pb2 import Selector

_CONNECTIONS = 4  # to each broker: of workers, each may meet another
CALL_SECONDS = 60.0
"""How long a call may take."""


@dataclass(frozen=True, slots=True)
class Operators:
    """Operators of one identity, each with a connection to a broker."""

    _turns: Iterator[OperatorServiceStub]

    def revoke(self, selector: Selector, *, barrier: bool = False) -> float:
        """Revoke; return the instant of the call.

        Raises:
            grpc.RpcError: the broker did not do it, or the barrier did not close.
        """
        request, stub = pb.RevokeLeasesRequest(selector=selector, reason="bench", barrier=barrier), next(self._turns)
        before = time.monotonic()
        stub.RevokeLeases(request, timeout=CALL_SECONDS)
        return before

    def barrier(self, token: str) -> float:
        """Revoke the lease of a token with the barrier; return the seconds that it took.

        Raises:
            grpc.RpcError: as `revoke`.
        """
        before = self.revoke(lease_of(token), barrier=True)
        return time.monotonic() - before


@contextmanager
def operators(brokers: Sequence[Broker], svid: str = "operator") -> Iterator[Operators]:
    """Connect to each broker for the time of a block, by an SVID of the first one's folder."""
    svids, addresses = brokers[0].svids, [broker.address for broker in brokers] * _CONNECTIONS
    with ExitStack() as stack:
        channels = [stack.enter_context(connect_sync(address, svids / svid)) for address in addresses]
        for channel in channels:
            grpc.channel_ready_future(channel).result(CALL_SECONDS)  # the handshake is not what is measured
        yield Operators(cycle([OperatorServiceStub(channel) for channel in channels]))


def lease_of(token: str) -> Selector:
    """Select the lease of a token alone."""
    claims = decode(token).claims
    return Selector(tenant=claims["credbroker"]["tenant"], lease_id=claims["jti"])
