"""The listening socket: it takes so many connections in all, so many of one address, and keeps little for each.

asyncio's own server takes all that come, and keeps 256 KiB for each from the first packet on. Here, where there are too
many, one that asks for nothing makes room: so a crowd of silent connections neither fills memory nor keeps others out.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from asyncio.sslproto import SSLProtocol
from collections import defaultdict
from collections.abc import Callable
from functools import partial

import structlog

from broker.web.connections import PatientProtocol

_TLS_SECONDS = 5
_GOODBYE_SECONDS = 2.0
_MOST_READ = 64 * 1024  # at a time
_MOST_UNTAKEN = 32 * 1024  # of what was read, while a request is being answered
_PAUSE_SECONDS = 0.1  # until a connection that made room has given its file descriptor back
_NETWORK_BYTES = 8  # of an IPv6 address: whoever has one address has all of its /64


class _Connection(SSLProtocol):
    """One connection, from its first packet on: TLS, and HTTP above it once its handshake is done."""

    max_size = _MOST_READ

    def __init__(
        self,
        http: PatientProtocol,
        tls: ssl.SSLContext,
        buffer: memoryview,
        closed: Callable[[_Connection], None],
    ) -> None:
        super().__init__(
            asyncio.get_running_loop(),
            http,
            tls,
            None,  # type: ignore[arg-type]  # nobody waits for the handshake
            server_side=True,
            ssl_handshake_timeout=_TLS_SECONDS,
            ssl_shutdown_timeout=_GOODBYE_SECONDS,
        )
        self._ssl_buffer, self._ssl_buffer_view = buffer, buffer  # instead of one of its own, of the same size
        self._set_read_buffer_limits(_MOST_UNTAKEN)  # type: ignore[attr-defined]  # typeshed leaves it out
        self.http = http
        self._closed = closed
        self._below: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        self._below = transport
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Be over."""
        super().connection_lost(exc)
        self._closed(self)

    def hang_up(self) -> None:
        """End it at once."""
        if isinstance(self._below, asyncio.WriteTransport):
            self._below.abort()


_Crowd = dict[_Connection, None]
"""The connections of one address, the oldest first."""


class HttpsListener:
    """Takes the connections of a listening socket."""

    def __init__(
        self,
        listening: socket.socket,
        tls: ssl.SSLContext,
        http: Callable[[], PatientProtocol],
        *,
        most: int,
        most_of_an_address: int,
    ) -> None:
        """Listen, but take nothing yet. `http` makes the protocol of a connection."""
        self._socket = listening
        self._tls = tls
        self._http = http
        self._most = most
        self._most_of_an_address = most_of_an_address
        # What is received is taken out before anything else is, so that all connections can share one buffer.
        self._buffer = memoryview(bytearray(_MOST_READ))
        self._open: defaultdict[str, _Crowd] = defaultdict(dict)
        self._size = 0

    async def run(self) -> None:
        """Take connections until cancelled; then hang up on those that have asked for nothing yet."""
        self._socket.setblocking(False)
        try:
            while True:
                await self._accept()
        finally:
            for crowd in self._open.values():
                for connection in crowd:
                    if not connection.http.has_asked:
                        connection.hang_up()

    async def _accept(self) -> None:
        try:
            taken, address = await asyncio.get_running_loop().sock_accept(self._socket)
        except OSError as error:  # the client has left already, or there is no file descriptor for it
            log = structlog.get_logger("http")
            log.warning("http.not_accepted", problem=error.strerror, connections=self._size)
            self._make_room()
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            await self._take(taken, _network(address[0]))

    async def _take(self, taken: socket.socket, whose: str) -> None:
        crowd = self._open[whose]
        full = len(crowd) >= self._most_of_an_address
        if (full and not self._hang_up(crowd)) or (self._size >= self._most and not self._make_room()):
            taken.close()
            return
        connection = _Connection(self._http(), self._tls, self._buffer, partial(self._forget, whose))
        self._open[whose][connection] = None
        self._size += 1
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, taken)
        except OSError:
            taken.close()
            self._forget(whose, connection)

    def _make_room(self) -> bool:
        """Hang up on one connection, of whoever has the most; report whether there was one to hang up on."""
        return any(self._hang_up(crowd) for crowd in sorted(self._open.values(), key=len, reverse=True))

    def _hang_up(self, crowd: _Crowd) -> bool:
        """Hang up on the oldest connection that has asked for nothing yet, or else for nothing now."""
        silent = next((connection for connection in crowd if not connection.http.has_asked), None)
        idle = silent or next((connection for connection in crowd if not connection.http.is_answering), None)
        if idle is not None:
            idle.hang_up()
            self._size -= 1
            del crowd[idle]
        return idle is not None

    def _forget(self, whose: str, connection: _Connection) -> None:
        crowd = self._open[whose]
        if connection in crowd:
            del crowd[connection]
            self._size -= 1
        if not crowd:
            del self._open[whose]


def _network(host: str) -> str:
    """Return the network that an address is counted under: IPv4 by itself, IPv6 by its /64."""
    if ":" not in host:
        return host
    return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])[:_NETWORK_BYTES].hex()
