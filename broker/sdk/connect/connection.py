"""Connections to a broker: TLS, over which we prove who we are.

A broker's certificate must be of the roots that go with our identity, and in the name of the host that is called.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc

from broker.model.errors import Hints, Reason, Refusal
from broker.sdk.connect.diagnosis import diagnose
from broker.sdk.connect.identity import Credentials, Identity, Source, WorkloadSocket
from broker.sdk.connect.svid import MutualTls, SvidFolder
from broker.sdk.connect.token_file import TokenFile

ADDRESS_VARIABLE = "CREDBROKER_ADDRESS"
SVID_DIR_VARIABLE = "CREDBROKER_SVID_DIR"
TOKEN_FILE_VARIABLE = "CREDBROKER_IDENTITY_TOKEN_FILE"
CA_FILE_VARIABLE = "CREDBROKER_CA_FILE"
TRUST_DOMAIN_VARIABLE = "CREDBROKER_TRUST_DOMAIN"
SOCKET_VARIABLE = "SPIFFE_ENDPOINT_SOCKET"  # SPIFFE Workload Endpoint section 4
_OPTIONS = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # the time that one attempt has, of connecting and TLS
    ("grpc.max_reconnect_backoff_ms", 2_000),  # by default minutes, for which a verifier would stay stale
    ("grpc.use_local_subchannel_pool", 1),  # a channel is a connection of its own, with its own certificate
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the broker is, and as whom to call it."""

    address: str
    identity: Identity

    @classmethod
    def of(
        cls, address: str | None = None, svid_dir: str | Path | None = None, identity: Identity | None = None
    ) -> Endpoint:
        """Take what is not given from the environment: the address from CREDBROKER_ADDRESS.

        The identity is the first one that is there: CREDBROKER_SVID_DIR or CREDBROKER_IDENTITY_TOKEN_FILE, each with
        CREDBROKER_CA_FILE; and last SPIFFE_ENDPOINT_SOCKET, as that may be meant for others, with
        CREDBROKER_TRUST_DOMAIN, which is the broker's if it is not ours.

        Raises:
            Refusal: INVALID_ARGUMENT, if something is set nowhere, or two identities are given.
        """
        address = address or os.environ.get(ADDRESS_VARIABLE)
        if not address:
            raise Refusal(
                Reason.INVALID_ARGUMENT,
                "the broker's address is not known",
                Hints(missing="--address", next=f"pass --address or set {ADDRESS_VARIABLE}"),
            )
        if address.startswith(("http://", "https://")):
            raise Refusal(
                Reason.INVALID_ARGUMENT,
                f"the broker's address is a URL: `{address}`",
                Hints(next=f"write {ADDRESS_VARIABLE} or --address as HOST:PORT, such as broker.example.org:8443"),
            )
        return cls(address, _identity(svid_dir, identity))

    @property
    def svid_dir(self) -> Path:
        """Return the folder of the X.509-SVID, for servers that show it themselves.

        Raises:
            Refusal: INVALID_ARGUMENT, if the identity is of another kind.
        """
        if not isinstance(self.identity, SvidFolder):
            raise Refusal(
                Reason.INVALID_ARGUMENT,
                "our identity is not an X.509-SVID in a folder",
                Hints(missing=SVID_DIR_VARIABLE, next=f"set {SVID_DIR_VARIABLE}"),
            )
        return self.identity.path

    def credentials(self) -> Credentials:
        """Return what to show now, once. May block for some seconds.

        Raises:
            Refusal: IDENTITY_MISSING, IDENTITY_EXPIRED or IDENTITY_INVALID.
        """
        with contextlib.closing(self.identity.open()) as source:
            return source.credentials()


def _identity(svid_dir: str | Path | None, identity: Identity | None) -> Identity:
    if svid_dir and identity is not None:
        raise Refusal(
            Reason.INVALID_ARGUMENT,
            "two identities are given: the folder of an X.509-SVID, and another one",
            Hints(next="pass `svid_dir` or `identity`, and not both"),
        )
    if svid_dir:
        return SvidFolder(Path(svid_dir), _ca_file(os.environ))
    found = identity or _from_environment(os.environ)
    if found is None:
        raise Refusal(
            Reason.INVALID_ARGUMENT,
            "it is not known as whom to call the broker",
            Hints(
                missing="--svid-dir",
                next=f"pass --svid-dir, or set {SVID_DIR_VARIABLE}, {TOKEN_FILE_VARIABLE} or {SOCKET_VARIABLE}",
            ),
        )
    return found


def _from_environment(variables: Mapping[str, str]) -> Identity | None:
    if folder := variables.get(SVID_DIR_VARIABLE):
        return SvidFolder(Path(folder), _ca_file(variables))
    if token_file := variables.get(TOKEN_FILE_VARIABLE):
        return TokenFile(Path(token_file), _ca_file(variables))
    if socket := variables.get(SOCKET_VARIABLE):
        return WorkloadSocket(socket, variables.get(TRUST_DOMAIN_VARIABLE, ""))
    return None


def _ca_file(variables: Mapping[str, str]) -> Path | None:
    found = variables.get(CA_FILE_VARIABLE)
    return Path(found) if found else None


def connect(
    address: str | None = None, svid_dir: str | Path | None = None, identity: Identity | None = None
) -> grpc.aio.Channel:
    """Open a channel for asyncio. A certificate is the one of now; a token in a file is read for each call.

    Raises:
        Refusal: as `Endpoint.of` and `Endpoint.credentials`.
    """
    endpoint = Endpoint.of(address, svid_dir, identity)
    return grpc.aio.secure_channel(endpoint.address, endpoint.credentials().for_channel(), _OPTIONS)


def connect_sync(
    address: str | None = None, svid_dir: str | Path | None = None, identity: Identity | None = None
) -> grpc.Channel:
    """Open a channel for threads; else as `connect`."""
    endpoint = Endpoint.of(address, svid_dir, identity)
    return open_channel(endpoint.address, endpoint.credentials())


def open_channel(address: str, credentials: Credentials) -> grpc.Channel:
    """Open a channel for threads to an address, on which these credentials are shown."""
    return grpc.secure_channel(address, credentials.for_channel(), _OPTIONS)


class Connection:
    """A connection that outlives certificates: it opens a new channel when there is something new to show."""

    def __init__(self, address: str, source: Source) -> None:
        """Make a connection that shows what a source gives. The source is closed with it."""
        self.answered = False  # whether the broker has ever answered over it
        self._address = address
        self._source = source
        self._credentials: Credentials | None = None
        self._channel: grpc.aio.Channel | None = None

    @classmethod
    async def open(cls, endpoint: Endpoint) -> Self:
        """Find out who we are, beside the event loop.

        Raises:
            Refusal: as `Endpoint.credentials`.
        """
        opening = asyncio.get_running_loop().run_in_executor(None, endpoint.identity.open)
        try:
            connection = cls(endpoint.address, await asyncio.shield(opening))
        except asyncio.CancelledError:
            opening.add_done_callback(_close_unused)
            raise
        return connection

    def channel(self) -> grpc.aio.Channel:
        """Return a channel that shows who we are now.

        Raises:
            Refusal: as `Endpoint.credentials`. There is no channel then that would show what is not good any more.
        """
        try:
            credentials = self._source.credentials()
        except Refusal:
            self._credentials = self._channel = None
            raise
        if self._channel is None or credentials != self._credentials:
            # The former channel closes when the last call on it is done.
            self._channel = grpc.aio.secure_channel(self._address, credentials.for_channel(), _OPTIONS)
            self._credentials = credentials
        return self._channel

    def certificate(self) -> str:
        """Return the SHA-256 of the certificate that we show now, in base64url; empty if we show none.

        Raises:
            Refusal: as `Endpoint.credentials`.
        """
        credentials = self._source.credentials()
        return credentials.thumbprint() if isinstance(credentials, MutualTls) else ""

    def renew(self) -> None:
        """Let the next call open a channel of its own; those under way keep theirs."""
        self._credentials = self._channel = None

    async def explain(self, refusal: Refusal) -> tuple[Refusal, bool]:
        """Look why the broker cannot be reached, if that can be found out; tell whether waiting may help, too."""
        found = await asyncio.to_thread(diagnose, self._address, self._source.credentials())
        return (refusal, True) if found is None else (found.refusal, found.passes)

    async def close(self) -> None:
        """Close the channel and the source."""
        if self._channel is not None:
            await self._channel.close()
        await asyncio.to_thread(self._source.close)


def _close_unused(opening: asyncio.Future[Source]) -> None:
    """Close what was opened for somebody who has not waited."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
