"""SVIDs in files, as spiffe-helper writes them: `svid.pem`, `key.pem`, `bundle.pem`. Read again when they change."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from broker.identity.authority import Svid
from broker.identity.bundles import TrustBundles, parse_bundle
from broker.identity.jwks import JwtKeySet, parse_jwks
from broker.identity.spiffe import parse_spiffe_id
from broker.trust.source import SvidMaterial

_SVID, _KEY, _BUNDLE = "svid.pem", "key.pem", "bundle.pem"
_UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class SvidFileError(Exception):
    """An SVID's files cannot be used. The message names the file and the remedy, and never what is in it."""


class SvidFiles:
    """The files of one SVID, the bundles of further trust domains, and the JWKS of those whose JWT-SVIDs are taken.

    What cannot be used (a half-written pair, say) does not replace what could: `problem` says why, until it is mended.
    """

    def __init__(
        self,
        directory: Path,
        federated: Mapping[str, Path] | None = None,
        jwt_bundles: Mapping[str, Path] | None = None,
    ) -> None:
        """Read the files for the first time.

        Raises:
            SvidFileError: they cannot be used.
        """
        self._directory = directory
        self._federated = dict(federated or {})
        self._jwt_bundles = dict(jwt_bundles or {})
        self.problem: str | None = None
        self._stamp = self._look()
        self._material = self._load(1)

    @property
    def material(self) -> SvidMaterial:
        """Give what was read last."""
        return self._material

    def refresh(self) -> bool:
        """Read again if a file has changed; tell whether there is something new."""
        try:
            stamp = self._look()
            if stamp == self._stamp:
                return False
            self._material = self._load(self._material.generation + 1)
        except SvidFileError as error:
            self.problem = str(error)
            return False
        self._stamp, self.problem = stamp, None
        return True

    def _paths(self) -> list[Path]:
        own = [self._directory / name for name in (_SVID, _KEY, _BUNDLE)]
        return [*own, *self._federated.values(), *self._jwt_bundles.values()]

    def _look(self) -> tuple[tuple[int, int, int], ...]:
        try:
            seen = [path.stat() for path in self._paths()]
        except OSError as error:
            raise SvidFileError(
                f"{error.filename}: {error.strerror}; an SVID is {_SVID}, {_KEY} and {_BUNDLE}"
            ) from error
        return tuple((found.st_mtime_ns, found.st_size, found.st_ino) for found in seen)

    def _load(self, generation: int) -> SvidMaterial:
        chain_pem, key_pem = self._read(_SVID), self._read(_KEY, private=True)
        own, not_after = self._check_pair(chain_pem, key_pem)
        roots = {own: self._bundle(self._directory / _BUNDLE)}
        for trust_domain, path in self._federated.items():
            if trust_domain == own:
                raise SvidFileError(
                    f"{path}: the bundle of our own trust domain `{own}` is {self._directory / _BUNDLE}"
                )
            roots[trust_domain] = self._bundle(path)
        jwt_keys = {trust_domain: self._jwt_bundle(path) for trust_domain, path in self._jwt_bundles.items()}
        return SvidMaterial(generation, chain_pem, key_pem, TrustBundles(generation, roots, jwt_keys), not_after)

    def _check_pair(self, chain_pem: bytes, key_pem: bytes) -> tuple[str, datetime]:
        """Check that key and certificate belong together; give the trust domain, and when the chain ends."""
        path = self._directory / _SVID
        try:
            chain = parse_bundle(chain_pem)
            leaf = chain[0]
            names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
            trust_domain, certified = parse_spiffe_id(uri).trust_domain, leaf.public_key()
        except _UNREADABLE as error:
            raise SvidFileError(f"{path}: is not an X.509-SVID in PEM") from error
        try:
            key = load_pem_private_key(key_pem, None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise SvidFileError(f"{self._directory / _KEY}: is not a private key in PEM") from None
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if key.public_key().public_bytes(*form) != certified.public_bytes(*form):
            raise SvidFileError(f"{self._directory / _KEY}: is not the key of {path}")
        return trust_domain, min(certificate.not_valid_after_utc for certificate in chain)

    def _bundle(self, path: Path) -> tuple[x509.Certificate, ...]:
        try:
            return parse_bundle(path.read_bytes())
        except OSError as error:
            raise SvidFileError(f"{path}: {error.strerror}") from error
        except ValueError as error:
            raise SvidFileError(f"{path}: is not a bundle of certificates in PEM") from error

    def _jwt_bundle(self, path: Path) -> JwtKeySet:
        try:
            return parse_jwks(path.read_bytes(), use="jwt-svid")
        except OSError as error:
            raise SvidFileError(f"{path}: {error.strerror}") from error
        except ValueError as error:
            raise SvidFileError(f"{path}: is not a bundle of JWT keys: {error}") from error

    def _read(self, name: str, *, private: bool = False) -> bytes:
        path = self._directory / name
        try:
            with path.open("rb") as file:
                if private and os.fstat(file.fileno()).st_mode & _OTHERS:
                    raise SvidFileError(f"{path}: others may read this private key; run `chmod 600 {path}`")
                return file.read()
        except OSError as error:
            raise SvidFileError(f"{path}: {error.strerror}") from error


def write_svid(directory: Path, svid: Svid, bundle_pem: bytes) -> None:
    """Write an SVID's files, each at once; a reader between two of them keeps what it had."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, data, mode in ((_BUNDLE, bundle_pem, 0o644), (_KEY, svid.key_pem, 0o600), (_SVID, svid.cert_pem, 0o644)):
        fresh = directory / f".{name}.new"
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        fresh.replace(directory / name)
