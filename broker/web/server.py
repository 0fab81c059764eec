"""The HTTPS listener: uvicorn in the daemon's event loop, with a certificate that is taken anew when it changes."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import uvicorn
from starlette.types import ASGIApp

from broker.disk import files
from broker.model.errors import CannotStart, ListenProblem
from broker.web.connections import PatientProtocol, unambiguous
from broker.web.listener import HttpsListener

_BACKLOG = 1_024
_KEEP_ALIVE_SECONDS = 10
_REQUEST_SECONDS = 20.0
_LAST_LOOK_SECONDS = 0.3  # uvicorn looks every tenth of a second whether it shall stop
_MOST_CONNECTIONS = 1_000
_ADDRESSES = 5  # that can fill it together; from there on, who has the most makes room


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate chain and its private key, as PEM."""

    chain_pem: bytes
    key_pem: bytes = field(repr=False)


class CertificateProblem(CannotStart):
    """The certificate of the HTTPS listener, or its key, cannot be used. The message says why."""


class HttpServer:
    """Serves an application over HTTPS."""

    def __init__(
        self,
        address: str,
        app: ASGIApp,
        certificate: Callable[[], Certificate],
        patience: float = _REQUEST_SECONDS,
        most_connections: int = _MOST_CONNECTIONS,
        *,
        together: bool = False,
    ) -> None:
        """Listen, but do not serve yet. A request must be there and answered within `patience`, in seconds.

        There are `most_connections` open at a time, if that is less than usual. `together`: other processes of ours
        listen there as well.

        Raises:
            ListenProblem: the address cannot be listened on.
            CertificateProblem: the certificate cannot be used.
            OSError: a file of it cannot be read.
        """
        host, _, port = address.rpartition(":")
        self._certificate = certificate
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._load(certificate())
        self._socket = _listen(host.strip("[]"), int(port), together=together)
        most = min(_MOST_CONNECTIONS, most_connections)
        config = _config(app)
        self._server = _Server(config)
        self._listener = HttpsListener(
            self._socket,
            self._tls,
            lambda: PatientProtocol(patience, config=config, server_state=self._server.server_state, app_state={}),
            most=most,
            most_of_an_address=most // _ADDRESSES,
        )
        self._serving: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._socket.getsockname()[1])

    def start(self) -> asyncio.Task[None]:
        """Serve; return what serves, which ends when it is stopped."""
        self._serving = asyncio.create_task(self._serve(), name="http")
        return self._serving

    def refresh(self) -> None:
        """Show the certificate as it is now to whoever connects from now on.

        Raises:
            CertificateProblem, OSError: it cannot be used or read; the former is shown on.
        """
        certificate = self._certificate()
        if certificate != self._tried:
            self._load(certificate)

    async def stop(self, grace_seconds: float) -> None:
        """Let the requests under way finish, then close, without waiting for clients that have nothing to say."""
        self._server.should_exit = True
        if self._serving is None or self._listening is None:
            return
        self._listening.cancel()
        await asyncio.wait([self._listening])
        self._socket.close()
        state, end = self._server.server_state, asyncio.get_running_loop().time() + grace_seconds
        await asyncio.wait([self._serving], timeout=_LAST_LOOK_SECONDS)
        while state.tasks and asyncio.get_running_loop().time() < end:  # uvicorn has no event for it
            await asyncio.wait(state.tasks, timeout=_LAST_LOOK_SECONDS)
        await asyncio.wait([self._serving], timeout=_LAST_LOOK_SECONDS)
        self._server.force_exit = True
        for connection in list(state.connections):
            connection.transport.abort()
        await asyncio.wait([self._serving], timeout=_LAST_LOOK_SECONDS)
        self._serving.cancel()

    async def _serve(self) -> None:
        async with asyncio.TaskGroup() as group:  # neither goes on without the other
            self._listening = group.create_task(self._listener.run())
            group.create_task(self._server.serve([]))  # connections come from our own listener

    def _load(self, certificate: Certificate) -> None:
        with files.passing(certificate.key_pem + b"\n" + certificate.chain_pem) as path:
            self._tried = certificate  # once: what it is will not change
            try:
                # In a context of its own before: one in which this fails half way has no certificate any more.
                for context in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self._tls):
                    context.load_cert_chain(path, password="")
            except ssl.SSLError as error:
                raise CertificateProblem(f"listen.http_cert: it or its key cannot be used: {error.strerror}") from error


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        unambiguous(app),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
    )


class _Server(uvicorn.Server):
    """A server that leaves signals to the daemon."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int, *, together: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG, reuse_port=together)
    except OSError as error:
        raise ListenProblem(f"listen.http_address {host}:{port}: {error.strerror}") from error
