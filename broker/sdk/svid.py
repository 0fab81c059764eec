"""An X.509-SVID of our own to call a broker with, in a folder of files as spiffe-helper writes them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from broker.model.errors import Hints, Reason, Refusal


@dataclass(frozen=True, slots=True)
class MutualTls:
    """A certificate and its key; and the roots of its trust domain, which a broker's certificate must be of."""

    bundle_pem: bytes
    key_pem: bytes = field(repr=False)
    svid_pem: bytes

    def for_channel(self) -> grpc.ChannelCredentials:
        """Give them as gRPC takes them. A channel keeps its own, so a rotated certificate needs a new channel."""
        return grpc.ssl_channel_credentials(self.bundle_pem, self.key_pem, self.svid_pem)


@dataclass(frozen=True, slots=True)
class SvidFolder:
    """A folder with `svid.pem`, `key.pem` and `bundle.pem`. They are read again for each call."""

    path: Path

    def open(self) -> _SvidFiles:
        """Read the files for the first time.

        Raises:
            Refusal: IDENTITY_MISSING, naming the file that cannot be read.
        """
        return _SvidFiles(self)

    def read(self) -> MutualTls:
        """Read the files as they are now; else as `open`."""
        return MutualTls(*(self._read(name) for name in ("bundle.pem", "key.pem", "svid.pem")))

    def _read(self, name: str) -> bytes:
        path = self.path / name
        try:
            return path.read_bytes()
        except OSError as error:
            raise Refusal(
                Reason.IDENTITY_MISSING,
                f"{path}: {error.strerror}",
                Hints(next="an SVID folder holds svid.pem, key.pem and bundle.pem; see `credbroker svid --help`"),
            ) from error


class _SvidFiles:
    """The files as they are, or as they were when they could last be read."""

    def __init__(self, folder: SvidFolder) -> None:
        self._folder = folder
        self._last = folder.read()

    def credentials(self) -> MutualTls:
        with contextlib.suppress(Refusal):  # half a rotation takes nothing away
            self._last = self._folder.read()
        return self._last

    def close(self) -> None:
        """Do nothing: no file stays open."""
