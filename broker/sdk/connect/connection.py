"""Connections to brokers: TLS, over which we prove who we are.

A broker's certificate must be of the roots that go with our identity, and in the name of the host that is called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import grpc

from broker.model.errors import Refusal
from broker.sdk.connect.diagnosis import explain
from broker.sdk.connect.endpoint import Endpoint
from broker.sdk.connect.identity import Credentials, Identity, Source
from broker.sdk.connect.ring import Ring
from broker.sdk.connect.svid import MutualTls

_OPTIONS = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # the time that one attempt has, of connecting and TLS
    ("grpc.max_reconnect_backoff_ms", 2_000),  # by default minutes, for which a verifier would stay stale
    ("grpc.use_local_subchannel_pool", 1),  # a channel is a connection of its own, with its own certificate
)


def connect(
    address: str | None = None, svid_dir: str | Path | None = None, identity: Identity | None = None
) -> grpc.aio.Channel:
    """Open a channel for asyncio. A certificate is the one of now; a token in a file is read for each call.

    A channel is to one broker: of several addresses, to any.

    Raises:
        Refusal: as `Endpoint.of` and `Endpoint.credentials`.
    """
    endpoint = Endpoint.of(address, svid_dir, identity)
    credentials = endpoint.credentials().for_channel()
    return grpc.aio.secure_channel(Ring(endpoint.addresses).address, credentials, _OPTIONS)


def connect_sync(
    address: str | None = None, svid_dir: str | Path | None = None, identity: Identity | None = None
) -> grpc.Channel:
    """Open a channel for threads; else as `connect`."""
    endpoint = Endpoint.of(address, svid_dir, identity)
    return open_channel(Ring(endpoint.addresses).address, endpoint.credentials())


def open_channel(address: str, credentials: Credentials) -> grpc.Channel:
    """Open a channel for threads to an address, on which these credentials are shown."""
    return grpc.secure_channel(address, credentials.for_channel(), _OPTIONS)


class Connection:
    """A connection that outlives certificates and brokers.

    It opens a new channel when there is something new to show, and goes on to the next address when a call has failed.
    """

    def __init__(self, addresses: Sequence[str], source: Source) -> None:
        """Make a connection that shows what a source gives. The source is closed with it."""
        self.answered = False  # whether a broker has ever answered over it
        self._ring = Ring(addresses)
        self._source = source
        self._credentials: Credentials | None = None
        self._channels: dict[str, grpc.aio.Channel] = {}

    @classmethod
    async def open(cls, endpoint: Endpoint) -> Self:
        """Find out who we are, beside the event loop.

        Raises:
            Refusal: as `Endpoint.credentials`.
        """
        opening = asyncio.get_running_loop().run_in_executor(None, endpoint.identity.open)
        try:
            connection = cls(endpoint.addresses, await asyncio.shield(opening))
        except asyncio.CancelledError:
            opening.add_done_callback(_close_unused)
            raise
        return connection

    @property
    def address(self) -> str:
        """Where the next call goes."""
        return self._ring.address

    def channel(self) -> grpc.aio.Channel:
        """Return a channel that shows who we are now.

        Raises:
            Refusal: as `Endpoint.credentials`. There is no channel then that would show what is not good any more.
        """
        try:
            credentials = self._source.credentials()
        except Refusal:
            self._credentials = None
            self._channels = {}
            raise
        if credentials != self._credentials:
            # Each of the former channels closes when the last call on it is done.
            self._credentials, self._channels = credentials, {}
        address = self._ring.address
        if address not in self._channels:
            self._channels[address] = grpc.aio.secure_channel(address, credentials.for_channel(), _OPTIONS)
        return self._channels[address]

    def certificate(self) -> str:
        """Return the SHA-256 of the certificate that we show now, in base64url; empty if we show none.

        Raises:
            Refusal: as `Endpoint.credentials`.
        """
        credentials = self._source.credentials()
        return credentials.thumbprint() if isinstance(credentials, MutualTls) else ""

    def renew(self) -> None:
        """Let the next call open a channel of its own; those under way keep theirs."""
        self._channels.pop(self._ring.address, None)

    def leave(self, address: str, *, lost: bool) -> None:
        """Go on to the next address, as a call to this one has failed. One that was `lost` connects anew next time."""
        if self._ring.leave(address) and lost:
            self._channels.pop(address, None)

    async def explain(self, refusal: Refusal) -> tuple[Refusal, bool]:
        """Look why no broker can be reached. Return the cause, or else `refusal`, and whether waiting may help."""
        return await asyncio.to_thread(explain, self._ring.addresses, self._source.credentials(), refusal)

    async def close(self) -> None:
        """Close the channels and the source."""
        for channel in self._channels.values():
            await channel.close()
        await asyncio.to_thread(self._source.close)


def _close_unused(opening: asyncio.Future[Source]) -> None:
    """Close what was opened for somebody who has not waited."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
