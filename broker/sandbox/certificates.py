"""A development CA, for people without SPIRE: it makes a trust domain's root, and X.509-SVIDs under it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from broker.identity.spiffe import SpiffeId

_BACKDATED = timedelta(minutes=5)  # clocks differ


@dataclass(frozen=True, slots=True)
class Authority:
    """A root certificate and its private key, as PEM."""

    cert_pem: bytes
    key_pem: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Svid:
    """An X.509-SVID and its private key, as PEM."""

    cert_pem: bytes
    key_pem: bytes = field(repr=False)


def new_authority(trust_domain: str, lifetime: timedelta, at: datetime) -> Authority:
    """Make the root of a trust domain."""
    key = _new_key()
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, f"credbroker development CA of {trust_domain}")])
    certificate = (
        _builder(name, name, key.public_key(), lifetime, at)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_names(SpiffeId(trust_domain, ""), []), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate.public_bytes(Encoding.PEM), _private(key))


def issue_svid(
    authority: Authority, spiffe_id: SpiffeId, dns_names: Sequence[str], lifetime: timedelta, at: datetime
) -> Svid:
    """Issue an X.509-SVID. A server's needs a DNS name, as gRPC for Python compares it with the address called."""
    root = x509.load_pem_x509_certificate(authority.cert_pem)
    root_key = load_pem_private_key(authority.key_pem, None)
    if not isinstance(root_key, ec.EllipticCurvePrivateKey):
        raise TypeError("the authority's key is not an elliptic-curve key")
    key = _new_key()
    purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = (
        _builder(x509.Name([]), root.subject, key.public_key(), lifetime, at)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(certificates=False), critical=True)
        .add_extension(purposes, critical=False)
        .add_extension(_names(spiffe_id, dns_names), critical=True)  # there is no subject
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    return Svid(certificate.public_bytes(Encoding.PEM), _private(key))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: timedelta, at: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - _BACKDATED)
        .not_valid_after(at + lifetime)
    )


def _names(spiffe_id: SpiffeId, dns_names: Sequence[str]) -> x509.SubjectAlternativeName:
    uri = x509.UniformResourceIdentifier(str(spiffe_id))
    return x509.SubjectAlternativeName([uri, *(x509.DNSName(name) for name in dns_names)])


def _usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
