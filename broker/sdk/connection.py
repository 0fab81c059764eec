"""Connections to a broker: mutual TLS with an X.509-SVID from files."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from broker.model.errors import Hints, Reason, Refusal

ADDRESS_VARIABLE = "CREDBROKER_ADDRESS"
SVID_DIR_VARIABLE = "CREDBROKER_SVID_DIR"
_OPTIONS = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),  # by default minutes, for which a verifier would stay stale
    ("grpc.use_local_subchannel_pool", 1),  # a channel is a connection of its own, with its own certificate
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the broker is, and as whom to call it: a folder with `svid.pem`, `key.pem` and `bundle.pem`."""

    address: str
    svid_dir: Path

    @classmethod
    def of(cls, address: str | None = None, svid_dir: str | Path | None = None) -> Endpoint:
        """Take what is not given from CREDBROKER_ADDRESS and CREDBROKER_SVID_DIR.

        Raises:
            Refusal: INVALID_ARGUMENT, if one of them is set nowhere.
        """
        address = address or os.environ.get(ADDRESS_VARIABLE)
        folder = svid_dir or os.environ.get(SVID_DIR_VARIABLE)
        if not address:
            raise _missing("the broker's address", "--address", ADDRESS_VARIABLE)
        if not folder:
            raise _missing("the folder of your X.509-SVID", "--svid-dir", SVID_DIR_VARIABLE)
        return cls(address, Path(folder))

    def credentials(self) -> _Credentials:
        """Read the files as they are now.

        Raises:
            Refusal: IDENTITY_MISSING, naming the file that cannot be read.
        """
        return _Credentials(*(self._read(name) for name in ("bundle.pem", "key.pem", "svid.pem")))

    def _read(self, name: str) -> bytes:
        path = self.svid_dir / name
        try:
            return path.read_bytes()
        except OSError as error:
            raise Refusal(
                Reason.IDENTITY_MISSING,
                f"{path}: {error.strerror}",
                Hints(next="an SVID folder holds svid.pem, key.pem and bundle.pem; see `credbroker svid --help`"),
            ) from error


@dataclass(frozen=True, slots=True)
class _Credentials:
    """What the files held. A channel keeps its credentials, so a rotated certificate needs a new channel."""

    bundle_pem: bytes
    key_pem: bytes = field(repr=False)
    svid_pem: bytes

    def channel_credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.bundle_pem, self.key_pem, self.svid_pem)


def connect(address: str | None = None, svid_dir: str | Path | None = None) -> grpc.aio.Channel:
    """Open a channel for asyncio. The certificate is the one in the files now.

    Raises:
        Refusal: the address or the files are missing.
    """
    endpoint = Endpoint.of(address, svid_dir)
    return grpc.aio.secure_channel(endpoint.address, endpoint.credentials().channel_credentials(), _OPTIONS)


def connect_sync(address: str | None = None, svid_dir: str | Path | None = None) -> grpc.Channel:
    """Open a channel for threads; else as `connect`."""
    endpoint = Endpoint.of(address, svid_dir)
    return grpc.secure_channel(endpoint.address, endpoint.credentials().channel_credentials(), _OPTIONS)


class Connection:
    """A connection that outlives certificates: it opens a new channel when the files have changed."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Open the first channel; needs a running event loop."""
        self._endpoint = endpoint
        self._credentials = endpoint.credentials()
        self._channel = self._open()

    def channel(self) -> grpc.aio.Channel:
        """Give a channel with the certificate that is in the files now, or the last that could be read."""
        try:
            credentials = self._endpoint.credentials()
        except Refusal:
            return self._channel
        if credentials != self._credentials:
            self._credentials = credentials
            self._channel = self._open()  # the former channel closes when the last call on it is done
        return self._channel

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    def _open(self) -> grpc.aio.Channel:
        return grpc.aio.secure_channel(self._endpoint.address, self._credentials.channel_credentials(), _OPTIONS)


def _missing(what: str, flag: str, variable: str) -> Refusal:
    return Refusal(
        Reason.INVALID_ARGUMENT, f"{what} is not known", Hints(missing=flag, next=f"pass {flag} or set {variable}")
    )
