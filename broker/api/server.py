"""The gRPC server: listeners, limits and reflection."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1.health import SERVICE_NAME

from broker.api import reflection
from broker.api.health import Health
from broker.api.pipeline import Pipeline, put, put_first
from broker.model.errors import ListenProblem

_MOST_CONNECTIONS = 10_000  # of a listener
_LARGEST_REQUEST = 256 * 1024
_LARGEST_METADATA = 20 * 1024  # an identity token and a proof of possession, of 8 KiB each, and what gRPC adds
_MOST_PENDING = 10_000
_MINUTE_MS = 60_000
_NEWS_SECONDS = 0.1  # until callers and watchers have heard that the server stops
_TIMES = 10  # that it waits so long, while callers come
_OPTIONS = (
    ("grpc.max_receive_message_length", _LARGEST_REQUEST),
    ("grpc.max_metadata_size", _LARGEST_METADATA),  # beyond it, calls are turned away at random, up to the next
    ("grpc.absolute_max_metadata_size", 2 * _LARGEST_METADATA),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.max_connection_age_ms", 30 * _MINUTE_MS),  # a new connection shows a fresh certificate
    ("grpc.max_connection_age_grace_ms", _MINUTE_MS),
    ("grpc.max_concurrent_streams", 1_000),
    ("grpc.server.max_pending_requests", _MOST_PENDING),  # beyond it, calls end as CANCELLED
    ("grpc.server.max_pending_requests_hard_limit", _MOST_PENDING),
    ("grpc.server_handshake_timeout_ms", 5_000),
    ("grpc.max_connection_idle_ms", 5 * _MINUTE_MS),
)


Listener = tuple[str, grpc.ServerCredentials]
"""An address, as HOST:PORT, and the TLS that is spoken there."""


class Server:
    """The daemon's gRPC servers: one for each listener, so that each has lines of its own in which calls wait.

    Whoever has shown a certificate to TLS does not wait behind those who show nothing, whatever they call.
    """

    def __init__(
        self,
        mutual: Listener,
        pipeline: Pipeline,
        services: Mapping[ServiceDescriptor, object],
        health: Health,
        for_tokens: Listener | None = None,
        most_connections: int = _MOST_CONNECTIONS,
        *,
        together: bool = False,
    ) -> None:
        """Make a server with a listener for mutual TLS, and perhaps one for callers with tokens.

        What gRPC bounds of a listener's connections are their number, if `most_connections` is less than usual, and how
        long each may take to begin; it cannot tell how many are of one address. `together`: other processes of ours
        listen there as well; two daemons on one port are a mistake otherwise.

        Raises:
            ListenProblem: an address cannot be listened on.
        """
        most = min(_MOST_CONNECTIONS, most_connections)
        own = (("grpc.max_allowed_incoming_connections", most), ("grpc.so_reuseport", int(together)))
        self._options = (*_OPTIONS, *own)
        self._health = health
        self._turnstile = pipeline.turnstile
        names = [service.full_name for service in services]
        health.names(names)
        self._handlers = {service.full_name: pipeline.serve(service, on) for service, on in services.items()}
        self._also = [health.handler(), *reflection.handlers((*names, SERVICE_NAME))]
        self._servers: list[grpc.aio.Server] = []
        self.port = self._listen(*mutual)
        self.jwt_port = None if for_tokens is None else self._listen(*for_tokens)

    def add(self, also: Sequence[grpc.GenericRpcHandler]) -> None:
        """Serve something else, too, that passes no pipeline. Call it before `start`."""
        for server in self._servers:
            server.add_generic_rpc_handlers(tuple(also))

    async def start(self) -> None:
        """Serve."""
        for server in self._servers:
            await server.start()

    async def stop(self, grace_seconds: float) -> None:
        """Drain: refuse calls, with a word of where to go, let those under way finish, then close.

        Callers go when they hear that. From those that are still there when gRPC closes, it takes calls for a moment,
        and cancels them without a word: so it closes when no more calls come, or after a second.
        """
        self._health.stop()
        self._turnstile.close()
        try:
            for _ in range(_TIMES):
                refused = self._turnstile.refused
                await asyncio.sleep(_NEWS_SECONDS)
                if self._turnstile.refused == refused:
                    break
        finally:
            await asyncio.gather(*(server.stop(grace_seconds) for server in self._servers))

    def _listen(self, address: str, credentials: grpc.ServerCredentials) -> int:
        server = grpc.aio.server(options=self._options)
        for name, handlers in self._handlers.items():
            put(server, name, handlers)
        server.add_generic_rpc_handlers(self._also)
        put_first(server, SERVICE_NAME, self._health.handlers())
        self._servers.append(server)
        try:
            return server.add_secure_port(address, credentials)
        except RuntimeError as error:  # gRPC's word for an address that was free a moment ago
            raise ListenProblem(f"{address}: cannot be listened on: another process has just taken it") from error
