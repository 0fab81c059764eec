"""X.509 certificates of any shape, good and hostile; to attack what reads them."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

HOUR = timedelta(hours=1)
VERSION_3, VERSION_4 = bytes.fromhex("a003020102"), bytes.fromhex("a003020103")
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


@dataclass(frozen=True)
class Made:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: CertificateIssuerPrivateKeyTypes

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def usage(*on: str) -> x509.KeyUsage:
    """A key usage with these bits, such as `digital_signature`."""
    bits = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{bit: bit in on for bit in bits})


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a certificate says. Without changes: a good X.509-SVID's leaf. None leaves an extension out."""

    subject: str = ""
    uris: Sequence[str] = ("spiffe://example.org/agent/researcher",)
    dns: Sequence[str] = ()
    constraints: x509.BasicConstraints | None = field(default_factory=lambda: x509.BasicConstraints(False, None))
    usage: x509.KeyUsage | None = field(default_factory=lambda: usage("digital_signature"))
    usage_critical: bool = True
    purposes: Sequence[ObjectIdentifier] | None = (SERVER, CLIENT)
    before: timedelta = HOUR
    after: timedelta = HOUR
    more: Sequence[tuple[x509.ExtensionType, bool]] = ()

    def extensions(self) -> list[tuple[x509.ExtensionType, bool]]:
        found: list[tuple[x509.ExtensionType, bool]] = list(self.more)
        names = [*map(x509.UniformResourceIdentifier, self.uris), *map(x509.DNSName, self.dns)]
        if names:
            found.append((x509.SubjectAlternativeName(names), not self.subject))
        if self.constraints is not None:
            found.append((self.constraints, True))
        if self.usage is not None:
            found.append((self.usage, self.usage_critical))
        if self.purposes is not None:
            found.append((x509.ExtendedKeyUsage(self.purposes), False))
        return found


def ca_shape(name: str, path_length: int | None = None) -> Shape:
    """What a good CA's certificate says."""
    return Shape(
        subject=name,
        uris=(),
        constraints=x509.BasicConstraints(True, path_length),
        usage=usage("key_cert_sign", "crl_sign"),
        purposes=None,
        before=24 * HOUR,
        after=24 * HOUR,
    )


def make(
    shape: Shape,
    at: datetime,
    issuer: Made | None = None,
    key: CertificateIssuerPrivateKeyTypes | None = None,
) -> Made:
    """Make a certificate, signed by its issuer or by itself."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = _name(shape.subject)
    signer = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - shape.before)
        .not_valid_after(at + shape.after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    for extension, critical in shape.extensions():
        builder = builder.add_extension(extension, critical)
    return Made(builder.sign(signer, _hash(signer)), key)


def root(name: str, at: datetime) -> Made:
    """Make a trust domain's root."""
    return make(ca_shape(name), at)


def of_a_version_that_there_is_not(pem: bytes) -> bytes:
    """Say of a certificate that it is of version 4."""
    first, *middle, last = pem.decode().splitlines()
    der = base64.b64decode("".join(middle))
    assert VERSION_3 in der
    changed = base64.encodebytes(der.replace(VERSION_3, VERSION_4, 1)).decode()
    return f"{first}\n{changed}{last}\n".encode()


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])


def _hash(signer: CertificateIssuerPrivateKeyTypes) -> hashes.SHA256 | None:
    return None if isinstance(signer, (ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey)) else hashes.SHA256()
