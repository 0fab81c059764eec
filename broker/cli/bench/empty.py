"""The empty RPC of the benches: what a call costs that does nothing, so that what ours do can be told apart from gRPC.

It is served by the bench's own broker, and by no other: on the same server, listener and connection as what it is
compared with, so that both pay for the same process, TLS, HTTP/2 and event loop, and for whatever interceptor is put
before every call. Like every empty RPC it asks nobody who they are, parses and writes a message without a field, and
awaits nothing. It used to be the health service's `Check`, which cost the same as long as health was a constant; what
health does since is no part of what a call must cost. So it stays as it is: figures are comparable from one version to
the next for as long as nothing is added here.
"""

from __future__ import annotations

import grpc
from google.protobuf.empty_pb2 import Empty

_SERVICE = "credbroker.bench.Empty"
_METHOD = "Call"
_EMPTY = Empty()


def handler() -> grpc.GenericRpcHandler:
    """Make the server's side."""
    call = grpc.unary_unary_rpc_method_handler(
        _call, request_deserializer=Empty.FromString, response_serializer=Empty.SerializeToString
    )
    return grpc.method_handlers_generic_handler(_SERVICE, {_METHOD: call})


def stub(channel: grpc.aio.Channel) -> grpc.aio.UnaryUnaryMultiCallable[Empty, Empty]:
    """Make the client's side."""
    return channel.unary_unary(
        f"/{_SERVICE}/{_METHOD}", request_serializer=Empty.SerializeToString, response_deserializer=Empty.FromString
    )


async def _call(_request: Empty, _context: object) -> Empty:
    return _EMPTY
