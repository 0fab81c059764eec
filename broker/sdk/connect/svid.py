"""An X.509-SVID of our own to call a broker with, in a folder of files as spiffe-helper writes them."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from broker.model.clock import Clock
from broker.model.errors import Hints, Reason, Refusal
from broker.sdk.connect.pem import certificates
from broker.system import system_clock

_FILES = Hints(next="an SVID folder holds svid.pem, key.pem and bundle.pem; see `credbroker svid --help`")
_WRITER = Hints(next="see that what writes it runs (spiffe-helper, say), and that this machine's clock is right")


@dataclass(frozen=True, slots=True)
class MutualTls:
    """A certificate and its key; and the roots of its trust domain, which a broker's certificate must be of.

    `where` says where they are from, for people: differing there is no difference.
    """

    bundle_pem: bytes
    key_pem: bytes = field(repr=False)
    svid_pem: bytes
    where: str = field(default="", compare=False)

    def for_channel(self) -> grpc.ChannelCredentials:
        """Return them as gRPC takes them. A channel keeps its own, so a rotated certificate needs a new channel."""
        return grpc.ssl_channel_credentials(self.bundle_pem, self.key_pem, self.svid_pem)

    def thumbprint(self) -> str:
        """Return the SHA-256 of the certificate, in base64url without padding (RFC 8705 section 3.1, `x5t#S256`)."""
        digest = x509.load_pem_x509_certificate(self.svid_pem).fingerprint(hashes.SHA256())
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class SvidFolder:
    """A folder with `svid.pem`, `key.pem` and `bundle.pem`. They are read again for each call.

    `ca_file` has the roots of the broker's certificate, if they are not those of our own trust domain in `bundle.pem`.
    """

    path: Path
    ca_file: Path | None = None

    def open(self) -> SvidFolderSource:
        """Read the files for the first time.

        Raises:
            Refusal: IDENTITY_MISSING, IDENTITY_INVALID or IDENTITY_EXPIRED, naming the file, what is wrong with it, and
                the remedy.
        """
        return SvidFolderSource(self)

    @property
    def roots_file(self) -> Path:
        """Return the file with the roots of the broker's certificate."""
        return self.ca_file or self.path / "bundle.pem"

    def read(self) -> MutualTls:
        """Read the files as they are now.

        Raises:
            Refusal: IDENTITY_MISSING, naming the file that cannot be read.
        """
        svid = self.path / "svid.pem"
        return MutualTls(_read(self.roots_file), _read(self.path / "key.pem"), _read(svid), where=str(svid))


class SvidFolderSource:
    """The files as they are, or as they were when they could last be used: half a rotation takes nothing away."""

    def __init__(self, folder: SvidFolder, clock: Clock = system_clock) -> None:
        """Read them; else as `SvidFolder.open`."""
        self._folder = folder
        self._clock = clock
        self._last = folder.read()
        self._ends = _check(folder, self._last)
        self._check_time("")

    def credentials(self) -> MutualTls:
        """Return what to show now.

        Raises:
            Refusal: IDENTITY_EXPIRED.
        """
        problem = ""
        try:
            read = self._folder.read()
            if read != self._last:
                self._ends = _check(self._folder, read)
                self._last = read
        except Refusal as refusal:
            problem = refusal.message
        self._check_time(problem)
        return self._last

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _check_time(self, problem: str) -> None:
        """Refuse to show what nobody would take: TLS would only hang up, without a word.

        One that is not good yet is shown: it is fresh, and our clock is slow. The broker goes by its own.
        """
        if self._clock() < self._ends:
            return
        fresh = f", and a newer one cannot be used: {problem}" if problem else ""
        path, ends = self._folder.path / "svid.pem", f"{self._ends:%Y-%m-%d %H:%M:%S} UTC"
        raise Refusal(Reason.IDENTITY_EXPIRED, f"{path}: expired at {ends}{fresh}", _WRITER)


def _check(folder: SvidFolder, read: MutualTls) -> datetime:
    """Check that the three files are what they should be, and belong together. Return when the chain ends."""
    svid, key = folder.path / "svid.pem", folder.path / "key.pem"
    chain = certificates(svid, read.svid_pem, _FILES.next)
    certificates(folder.roots_file, read.bundle_pem, _FILES.next)
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        private = load_pem_private_key(read.key_pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Refusal(
            Reason.IDENTITY_INVALID, f"{key}: is not a private key in PEM, without a password", _FILES
        ) from None
    try:
        certified = chain[0].public_key().public_bytes(*form)
    except (ValueError, UnsupportedAlgorithm):
        raise Refusal(Reason.IDENTITY_INVALID, f"{svid}: has a key of a kind that is not known", _FILES) from None
    if private.public_key().public_bytes(*form) != certified:
        raise Refusal(
            Reason.IDENTITY_INVALID,
            f"{key}: is not the key of {svid}",
            Hints(next="write both files from the same SVID: one of them is of another rotation, or another workload"),
        )
    return min(certificate.not_valid_after_utc for certificate in chain)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refusal(Reason.IDENTITY_MISSING, f"{path}: {error.strerror}", _FILES) from error
