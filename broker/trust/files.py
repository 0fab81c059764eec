"""SVIDs in files, as spiffe-helper writes them: `svid.pem`, `key.pem`, `bundle.pem`. Read again when they change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from broker.disk import files
from broker.disk.files import ExposedFile
from broker.identity.jwks import JsonWebKeySet, parse_jwks
from broker.identity.spiffe import parse_spiffe_id
from broker.identity.trust_bundles import TrustBundles, parse_certificates
from broker.trust.kept import Kept, SvidFileError
from broker.trust.source import SvidMaterial

_SVID, _KEY, _BUNDLE = "svid.pem", "key.pem", "bundle.pem"
_UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True, slots=True)
class _Pair:
    """Our certificate chain and its key; whose it is, and when the chain ends."""

    chain_pem: bytes
    key_pem: bytes = field(repr=False)
    trust_domain: str
    not_after: datetime


class SvidFileSource:
    """The files of one SVID, the bundles of further trust domains, and the JWKS of those whose JWT-SVIDs are taken.

    What cannot be used (a half-written pair, say) does not replace what could, and does not keep the rest from being
    replaced: `problem` says why, until it is mended.
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
        self._federated_paths = dict(federated or {})
        self._pair = Kept([directory / _SVID, directory / _KEY], self._read_pair)
        self._own = _kept_bundle(directory / _BUNDLE)
        self._federated = {name: _kept_bundle(path) for name, path in self._federated_paths.items()}
        self._jwt_keys = {name: _kept_jwt_bundle(path) for name, path in (jwt_bundles or {}).items()}
        self._material = self._put_together(1)

    @property
    def material(self) -> SvidMaterial:
        """Return what was read last."""
        return self._material

    def check_time(self, at: datetime) -> None:
        """See that our certificate is good now, which the start of a broker asks for: nobody would take it.

        Raises:
            SvidFileError: it has expired, or is not valid yet.
        """
        path, ends = self._directory / _SVID, self._material.not_after
        begins = max(link.not_valid_before_utc for link in parse_certificates(self._material.cert_chain_pem))
        if at >= ends:
            raise SvidFileError(f"{path}: expired at {_utc(ends)}; see that what writes it runs (spiffe-helper, say)")
        if at < begins:
            raise SvidFileError(f"{path}: is good from {_utc(begins)} on, and here it is {_utc(at)}; set the clock")

    @property
    def problem(self) -> str | None:
        """Return which files cannot be used, and why."""
        return "; ".join(part.problem for part in self._parts() if part.problem) or None

    def refresh(self) -> bool:
        """Read again what has changed, each by itself; report whether there is something new."""
        renewed = [part for part in self._parts() if part.refresh()]
        if not renewed:
            return False
        self._material = self._put_together(self._material.generation + 1)
        return True

    def _parts(self) -> list[Kept[Any]]:
        return [self._pair, self._own, *self._federated.values(), *self._jwt_keys.values()]

    def _put_together(self, generation: int) -> SvidMaterial:
        pair = self._pair.value
        roots = {name: part.value for name, part in self._federated.items()} | {pair.trust_domain: self._own.value}
        jwt_keys = {name: part.value for name, part in self._jwt_keys.items()}
        bundles = TrustBundles(generation, roots, jwt_keys)
        return SvidMaterial(generation, pair.chain_pem, pair.key_pem, bundles, pair.not_after)

    def _read_pair(self) -> _Pair:
        """Read key and certificate, and check that they belong together."""
        chain_pem, key_pem = self._read(_SVID), self._read(_KEY, private=True)
        own, not_after = self._check_pair(chain_pem, key_pem)
        if own in self._federated_paths:
            raise SvidFileError(
                f"{self._federated_paths[own]}: the bundle of our own trust domain `{own}` is"
                f" {self._directory / _BUNDLE}"
            )
        return _Pair(chain_pem, key_pem, own, not_after)

    def _check_pair(self, chain_pem: bytes, key_pem: bytes) -> tuple[str, datetime]:
        """Check that key and certificate belong together; return the trust domain, and when the chain ends."""
        path = self._directory / _SVID
        try:
            chain = parse_certificates(chain_pem)
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

    def _read(self, name: str, *, private: bool = False) -> bytes:
        path = self._directory / name
        try:
            return files.read_private(path) if private else path.read_bytes()
        except ExposedFile as error:
            raise SvidFileError(str(error)) from error
        except OSError as error:
            raise SvidFileError(f"{path}: {error.strerror}") from error


def _kept_bundle(path: Path) -> Kept[tuple[x509.Certificate, ...]]:
    return Kept([path], lambda: _bundle(path))


def _bundle(path: Path) -> tuple[x509.Certificate, ...]:
    try:
        return parse_certificates(path.read_bytes())
    except OSError as error:
        raise SvidFileError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise SvidFileError(f"{path}: is not a bundle of certificates in PEM") from error


def _kept_jwt_bundle(path: Path) -> Kept[JsonWebKeySet]:
    return Kept([path], lambda: _jwt_bundle(path))


def _jwt_bundle(path: Path) -> JsonWebKeySet:
    try:
        return parse_jwks(path.read_bytes(), use="jwt-svid")
    except OSError as error:
        raise SvidFileError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise SvidFileError(f"{path}: is not a bundle of JWT keys: {error}") from error


def _utc(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"
