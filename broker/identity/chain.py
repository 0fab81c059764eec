"""Chains of X.509 certificates: whether one leads to a root, and if not, which of its CAs is not as it must be."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, SignatureAlgorithmOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What parsing a certificate, or a part of it, may raise."""

_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_SHORTEST_RSA = 2_048
_FORGEABLE = {
    SignatureAlgorithmOID.RSA_WITH_MD5: "MD5",
    SignatureAlgorithmOID.RSA_WITH_SHA1: "SHA-1",
    SignatureAlgorithmOID.ECDSA_WITH_SHA1: "SHA-1",
}
_PURPOSES = frozenset({ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE})
_FOREIGN = "the certificate does not lead to a root of its own trust domain"
_OTHERWISE = (
    "the certificate's chain is outside of the limits of one of its CAs, or has a critical extension of no use here"
)


class ChainError(Exception):
    """A chain does not hold. The message says why."""


def verify(
    leaf: x509.Certificate, shown: Sequence[x509.Certificate], roots: Sequence[x509.Certificate], at: datetime
) -> list[x509.Certificate]:
    """Verify a client's chain; return it, leaf first, root last. `shown` is what came behind the leaf, in any order.

    Raises:
        ChainError: it leads to no root, or not in a way that is taken; or something was shown that is none of it.
    """
    verifier = (
        PolicyBuilder()
        .store(Store(list(roots)))
        .time(at)
        .extension_policies(ca_policy=_CA, ee_policy=_LEAF)
        .build_client_verifier()
    )
    try:
        chain = verifier.verify(leaf, list(shown)).chain
    except VerificationError:
        raise ChainError(_cause(leaf, shown, roots, at)) from None
    if any(certificate not in chain and certificate not in roots for certificate in shown):
        raise ChainError(
            "a certificate was shown that is not part of the chain; show the leaf and what leads to a root"
        )
    return chain


def is_strong(key: CertificatePublicKeyTypes) -> bool:
    """Report whether a leaf may have a key."""
    return isinstance(key, ed25519.Ed25519PublicKey) or _is_strong_for_cas(key)


def _is_strong_for_cas(key: CertificatePublicKeyTypes) -> bool:
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size >= _SHORTEST_RSA
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES)


def _may_sign(_policy: Policy, _certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    """Refuse a CA that says it may not sign certificates (RFC 5280 section 4.2.1.3)."""
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("the CA may not sign certificates")


def _may_vouch(_policy: Policy, _certificate: x509.Certificate, purposes: x509.ExtendedKeyUsage | None) -> None:
    """Refuse a CA that says what its certificates are for, if that is not clients: it holds for all below."""
    if purposes is not None and _PURPOSES.isdisjoint(purposes):
        raise ValueError("the CA may not vouch for clients")


_CA = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
    .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _may_sign)
    .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _may_vouch)
)
_LEAF = ExtensionPolicy.permit_all().require_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)


def _cause(
    leaf: x509.Certificate, shown: Sequence[x509.Certificate], roots: Sequence[x509.Certificate], at: datetime
) -> str:
    """Return why a chain does not hold, going up from the leaf to the first CA that is not as it must be."""
    link = leaf
    for _ in range(len(shown) + 1):
        issuer = next((ca for ca in (*roots, *shown) if _has_issued(ca, link)), None)
        if issuer is None:
            digest = _FORGEABLE.get(link.signature_algorithm_oid)  # such a signature is not even checked
            return f"a signature in the certificate's chain is made with {digest}" if digest else _FOREIGN
        if wrong := _wrong(issuer, at):
            return wrong
        if issuer in roots:
            return _OTHERWISE
        link = issuer
    return _FOREIGN


def _has_issued(ca: x509.Certificate, link: x509.Certificate) -> bool:
    try:
        link.verify_directly_issued_by(ca)
    except (*UNREADABLE, TypeError, InvalidSignature):
        return False
    return True


def _wrong(ca: x509.Certificate, at: datetime) -> str:
    """Return what is wrong with a CA that has issued a certificate; empty, if nothing is."""
    key = ca.public_key()
    if not _is_strong_for_cas(key):
        kind = kind_of(key)
        return f"a CA in the certificate's chain has a key of {kind}; use P-256, P-384, P-521 or RSA with 2048 bits"
    if at >= ca.not_valid_after_utc:
        return "a CA in the certificate's chain has expired"
    if at < ca.not_valid_before_utc:
        return "a CA in the certificate's chain is not valid yet; compare the clocks"
    return _wrong_extension(ca)


def _wrong_extension(ca: x509.Certificate) -> str:
    try:
        by_type = {type(extension.value): extension.value for extension in ca.extensions}
    except UNREADABLE:
        return "a CA in the certificate's chain is malformed, or of a kind that is not supported"
    constraints, usage = by_type.get(x509.BasicConstraints), by_type.get(x509.KeyUsage)
    if not isinstance(constraints, x509.BasicConstraints) or not constraints.ca:
        return "a certificate in the chain that has signed another is not that of a CA"
    if isinstance(usage, x509.KeyUsage) and not usage.key_cert_sign:
        return "a CA in the certificate's chain may not sign certificates (key usage)"
    purposes = by_type.get(x509.ExtendedKeyUsage)
    if isinstance(purposes, x509.ExtendedKeyUsage) and _PURPOSES.isdisjoint(purposes):
        return "a CA in the certificate's chain may not vouch for clients (extended key usage)"
    return ""


def kind_of(key: CertificatePublicKeyTypes) -> str:
    """Name the kind of a key."""
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA with {key.key_size} bits"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.curve.name
    names = ((ed25519.Ed25519PublicKey, "Ed25519"), (ed448.Ed448PublicKey, "Ed448"))
    return next((name for kind, name in names if isinstance(key, kind)), "another kind")
