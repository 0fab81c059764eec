"""A JWT in a file to call a broker with: Kubernetes projects one, spiffe-helper writes one, a CI job is given one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import grpc

from broker.model.errors import Hints, Reason, Refusal
from broker.sdk.connect.pem import certificates

_COMPACT = re.compile(rb"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+){2}")
_MISSING = Hints(next="see that what writes the token runs: a projected volume, spiffe-helper, or a step of the job")
_MALFORMED = Hints(next="let the file hold one JWT in compact form, and nothing else")


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A file with a JWT, which is read again for each call, as it is rotated.

    It goes out over TLS alone, as bearer token, to a broker whose certificate is of the roots in `ca_file`; without
    one, of those that gRPC takes by default (GRPC_DEFAULT_SSL_ROOTS_FILE_PATH, or the public ones that it ships).
    """

    path: Path
    ca_file: Path | None = None

    def open(self) -> TokenFile:
        """See that there is a token.

        Raises:
            Refusal: IDENTITY_MISSING or IDENTITY_INVALID, naming the file.
        """
        self.credentials()
        return self

    def credentials(self) -> TokenOverTls:
        """See that there is a token still; else as `open`."""
        self.read()
        return TokenOverTls(None if self.ca_file is None else _roots(self.ca_file), self)

    def read(self) -> str:
        """Return the token as it is now; else as `open`."""
        token = _bytes(self.path).strip()
        if not _COMPACT.fullmatch(token):
            raise Refusal(Reason.IDENTITY_INVALID, f"{self.path}: is not a JWT", _MALFORMED)
        return token.decode()

    def close(self) -> None:
        """Do nothing: no file stays open."""


@dataclass(frozen=True, slots=True)
class TokenOverTls:
    """A file's token on each call, and the roots that a broker's certificate must be of. Differs if the roots do."""

    ca_pem: bytes | None
    file: TokenFile

    def for_channel(self) -> grpc.ChannelCredentials:
        """Return them as gRPC takes them. It refuses to send call credentials over anything but TLS."""
        tls = grpc.ssl_channel_credentials(self.ca_pem)
        return grpc.composite_channel_credentials(tls, grpc.metadata_call_credentials(_Bearer(self.file)))


class _Bearer(grpc.AuthMetadataPlugin):
    """Reads the token for each call."""

    def __init__(self, file: TokenFile) -> None:
        self._file = file

    def __call__(self, _context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        try:
            token = self._file.read()
        except Refusal as refusal:
            callback((), refusal)
        else:
            callback((("authorization", f"Bearer {token}"),), None)


def _roots(path: Path) -> bytes:
    pem = _bytes(path)
    certificates(path, pem, "let the file hold the roots of the broker's certificate")
    return pem


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refusal(Reason.IDENTITY_MISSING, f"{path}: {error.strerror}", _MISSING) from error
