"""X.509-SVIDs: nine checks on every call (docs/threat-model.md).

TLS has checked the chain already, but against the roots of all trust domains together, and once per connection. So:

1. the transport is TLS 1.3 or 1.2;
2. there is a leaf certificate;
3. it has exactly one URI SAN: a SPIFFE ID with a path;
4. it is a leaf with a strong key: no CA, may sign data and no certificates, may authenticate clients;
5. the ID's trust domain is one of ours;
6. the chain leads to a root of *that* trust domain, in the bundle as it is now, by CAs that may vouch for clients, and
   nothing else is shown;
7. nothing in the chain has expired;
8. neither the ID nor the serial is denied;
9. a rule of the configuration says what the workload is.

What does not change with time is remembered per leaf, for the chain it was last shown with and the bundle; 7 is checked
each time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NoReturn

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from broker.identity import chain
from broker.identity.directory import Directory
from broker.identity.spiffe import SpiffeId, parse_spiffe_id
from broker.identity.trust_bundles import TrustBundles
from broker.model.bounded_cache import BoundedCache
from broker.model.errors import Hints, Reason, Refusal
from broker.model.principal import Principal

_REMEMBERED = 10_000
_LARGEST, _MOST = 64 * 1024, 10
_BEGIN = b"-----BEGIN"
_TRANSPORTS = frozenset({"ssl", "tls"})
_TLS_VERSIONS = frozenset({"TLSv1.2", "TLSv1.3"})
_METHOD = "x509_svid"
_RENEW = "fetch a fresh X.509-SVID and connect again"


@dataclass(frozen=True, slots=True)
class PeerEvidence:
    """What a connection shows of its peer: certificates as PEM, the leaf and the intermediates behind it.

    `leaf` and `chain` are digests of these, taken once for however many messages come by the connection.
    """

    transport: str
    tls_version: str
    leaf_pem: bytes
    chain_pem: bytes
    leaf: bytes = field(init=False)
    chain: bytes = field(init=False)

    def __post_init__(self) -> None:
        """Take the digests."""
        object.__setattr__(self, "leaf", hashlib.sha256(self.leaf_pem).digest())
        object.__setattr__(self, "chain", hashlib.sha256(self.chain_pem).digest())


@dataclass(frozen=True, slots=True)
class _VerifiedLeaf:
    """A principal whose chain was verified, with the span in which all of the chain is valid.

    `shown` tells all that was shown, and in which bundles its root was.
    """

    shown: tuple[int, bytes]
    principal: Principal
    not_before: datetime
    not_after: datetime


class Authenticator:
    """Makes principals of evidence. `bundles` is asked on each call, so that a removed root counts at once."""

    def __init__(self, bundles: Callable[[], TrustBundles], directory: Directory) -> None:
        """Make an authenticator with an empty memory."""
        self._bundles = bundles
        self._directory = directory
        self._remembered: BoundedCache[bytes, _VerifiedLeaf] = BoundedCache(_REMEMBERED)  # by the leaf's digest

    def authenticate(self, evidence: PeerEvidence, at: datetime) -> Principal:
        """Return the principal behind a connection.

        Raises:
            Refusal: IDENTITY_MISSING, IDENTITY_INVALID, IDENTITY_EXPIRED or IDENTITY_UNKNOWN.
        """
        if evidence.transport not in _TRANSPORTS or not evidence.leaf_pem:
            raise Refusal(
                Reason.IDENTITY_MISSING,
                "the connection shows no client certificate",
                Hints(next="connect with mutual TLS and an X.509-SVID"),
            )
        if evidence.tls_version not in _TLS_VERSIONS:
            _refuse("the connection's TLS is older than 1.2")
        bundles = self._bundles()
        shown = bundles.generation, evidence.chain
        verified = self._remembered.get(evidence.leaf)
        if verified is None or verified.shown != shown:
            verified = self._remembered.keep(evidence.leaf, self._verify(evidence, shown, bundles, at))
        if not verified.not_before <= at < verified.not_after:
            _refuse_time(at >= verified.not_after)
        return verified.principal

    def _verify(
        self, evidence: PeerEvidence, shown: tuple[int, bytes], bundles: TrustBundles, at: datetime
    ) -> _VerifiedLeaf:
        if len(evidence.leaf_pem) + len(evidence.chain_pem) > _LARGEST or evidence.chain_pem.count(_BEGIN) > _MOST:
            _refuse(f"what was shown is more than {_MOST} certificates, or more than {_LARGEST // 1024} KiB")
        try:
            leaf = x509.load_pem_x509_certificate(evidence.leaf_pem)
            intermediates = x509.load_pem_x509_certificates(evidence.chain_pem) if evidence.chain_pem else []
            extensions, public_key = leaf.extensions, leaf.public_key()
        except chain.UNREADABLE:
            _refuse("the certificate is malformed, or of a kind that is not supported")
        spiffe_id = _spiffe_id(extensions)
        _check_leaf(extensions)
        if not chain.is_strong(public_key):
            kind = chain.kind_of(public_key)
            _refuse(f"the certificate has a key of {kind}; use P-256, P-384, P-521, Ed25519, or RSA with 2048 bits")
        roots = bundles.roots.get(spiffe_id.trust_domain)
        if not roots:
            _refuse(f"the trust domain `{spiffe_id.trust_domain}` is not one of ours")
        # Before the chain, so that an expired leaf is called what it is.
        if at >= leaf.not_valid_after_utc:
            _refuse_time(expired=True)
        try:
            verified = chain.verify(leaf, intermediates, roots, at)
        except chain.ChainError as error:
            _refuse(str(error))
        not_after = min(certificate.not_valid_after_utc for certificate in verified)
        return _VerifiedLeaf(
            shown,
            self._principal(spiffe_id, leaf, not_after),
            max(certificate.not_valid_before_utc for certificate in verified),
            not_after,
        )

    def _principal(self, spiffe_id: SpiffeId, leaf: x509.Certificate, not_after: datetime) -> Principal:
        return self._directory.identify(
            str(spiffe_id),
            method=_METHOD,
            proof=leaf.fingerprint(hashes.SHA256()),
            not_after=not_after,
            serial=f"{leaf.serial_number:x}",
        )


def _spiffe_id(extensions: x509.Extensions) -> SpiffeId:
    """Check 3."""
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        uris = []
    if len(uris) != 1:
        _refuse("the certificate does not have exactly one URI name")
    try:
        spiffe_id = parse_spiffe_id(uris[0])
    except ValueError as error:
        _refuse(f"the certificate's URI name is no SPIFFE ID: {error}")
    if not spiffe_id.path:
        _refuse("the certificate is in the name of a trust domain, not of a workload")
    return spiffe_id


def _check_leaf(extensions: x509.Extensions) -> None:
    """Check 4 (X.509-SVID sections 4.1 to 4.4)."""
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage)
    except x509.ExtensionNotFound:
        _refuse("the certificate has no key usage")
    may = usage.value
    if not usage.critical or not may.digital_signature or may.key_cert_sign or may.crl_sign:
        _refuse("the certificate's key usage is not that of a leaf")
    try:
        if extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            _refuse("the certificate is that of a CA")
    except x509.ExtensionNotFound:
        pass
    try:
        purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
        _refuse("the certificate may not authenticate clients")


def _refuse(what: str) -> NoReturn:
    raise Refusal(Reason.IDENTITY_INVALID, what, Hints(next=_RENEW))


def _refuse_time(expired: bool) -> NoReturn:  # noqa: FBT001 (private)
    if expired:
        raise Refusal(Reason.IDENTITY_EXPIRED, "the certificate has expired", Hints(next=_RENEW))
    _refuse("the certificate is not valid yet; compare the clocks")
