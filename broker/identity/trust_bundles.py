"""Trust bundles: the roots and JWT keys of each trust domain, never mixed (SPIFFE Federation section 7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from broker.identity.jwks import JsonWebKeySet

_BEGIN = b"-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class TrustBundles:
    """The roots of X.509-SVIDs and the keys of JWT-SVIDs, by trust domain. `generation` differs whenever they do."""

    generation: int
    roots: Mapping[str, tuple[x509.Certificate, ...]]
    jwt_keys: Mapping[str, JsonWebKeySet] = field(default_factory=dict)

    def all_roots_pem(self) -> bytes:
        """Return all roots as PEM, for TLS, which knows one list only. Every leaf is verified again with its own."""
        return b"".join(root.public_bytes(Encoding.PEM) for roots in self.roots.values() for root in roots)


def parse_certificates(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Parse a bundle of PEM certificates, or a chain of them.

    Raises:
        ValueError: it holds none, or a broken one.
    """
    try:
        certificates = tuple(x509.load_pem_x509_certificates(pem))
    except x509.InvalidVersion as error:
        raise ValueError("the bundle holds a certificate of a version that there is not") from error
    if len(certificates) < pem.count(_BEGIN):  # one that is cut short is passed over otherwise
        raise ValueError("the bundle holds a broken certificate")
    return certificates
