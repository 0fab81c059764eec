"""Each of the nine checks on an X.509-SVID, attacked with a certificate that fails it alone. Here: the leaf."""

import base64
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, ObjectIdentifier
from hypothesis import given
from hypothesis import strategies as st

from broker.identity.x509 import PeerEvidence
from broker.model.compact_jws import base64url
from broker.model.errors import Reason, Refusal
from broker.model.principal import Principal, Role
from tests.support.certificates import (
    CLIENT,
    HOUR,
    SERVER,
    Shape,
    ca_shape,
    make,
    of_a_version_that_there_is_not,
    usage,
)
from tests.support.svids import ADMIN, NOW, OURS, RESEARCHER, World, ca, leaf


def test_a_good_svid_makes_a_principal() -> None:
    good = leaf()
    assert World().ask(good) == Principal(
        id=RESEARCHER,
        tenant="acme",
        roles=frozenset({Role.AGENTS}),
        method="x509_svid",
        proof=good.certificate.fingerprint(hashes.SHA256()).hex(),
        not_after=NOW + HOUR,
        certificate=base64url(good.certificate.fingerprint(hashes.SHA256())),
    )


# Checks 1 and 2: the transport, and that there is a leaf.


@pytest.mark.parametrize("transport", ["", "insecure", "local", "alts", "SSL"])
def test_no_identity_without_tls(transport: str) -> None:
    with pytest.raises(Refusal) as caught:
        World().authenticator.authenticate(PeerEvidence(transport, "TLSv1.3", leaf().pem, b""), NOW)
    assert caught.value.reason is Reason.IDENTITY_MISSING


@pytest.mark.parametrize("version", ["", "SSLv3", "TLSv1", "TLSv1.1", "TLSv1.4"])
def test_no_identity_over_another_version_of_tls(version: str) -> None:
    with pytest.raises(Refusal) as caught:
        World().authenticator.authenticate(PeerEvidence("ssl", version, leaf().pem, b""), NOW)
    assert caught.value.reason is Reason.IDENTITY_INVALID


def test_no_identity_without_a_leaf() -> None:
    with pytest.raises(Refusal) as caught:
        World().authenticator.authenticate(PeerEvidence("ssl", "TLSv1.3", b"", OURS.pem), NOW)
    assert caught.value.reason is Reason.IDENTITY_MISSING


@pytest.mark.parametrize(
    ("leaf_pem", "chain_pem"),
    [
        (b"junk", b""),
        (OURS.key_pem, b""),
        (leaf().pem[:-60], b""),
        (leaf().pem, b"junk"),
        (of_a_version_that_there_is_not(leaf().pem), b""),
        (leaf().pem, of_a_version_that_there_is_not(leaf().pem)),
    ],
    ids=["junk", "a key", "cut short", "junk as the chain", "of no version", "of no version as the chain"],
)
def test_what_is_no_certificate_is_refused(leaf_pem: bytes, chain_pem: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        World().authenticator.authenticate(PeerEvidence("ssl", "TLSv1.3", leaf_pem, chain_pem), NOW)
    assert caught.value.reason is Reason.IDENTITY_INVALID


# Check 3: exactly one URI name, a SPIFFE ID with a path.


@pytest.mark.parametrize(
    "uris",
    [
        (),
        (RESEARCHER, ADMIN),
        (RESEARCHER, RESEARCHER),
        (RESEARCHER, "https://example.org/agent/researcher"),
        ("https://example.org/agent/researcher",),
        ("spiffe://example.org",),
        ("spiffe://example.org/",),
        ("spiffe://Example.org/agent/researcher",),
        ("SPIFFE://example.org/agent/researcher",),
        ("spiffe://example.org/agent/../admin",),
        ("spiffe://example.org/agent/%2e%2e/admin",),
        ("spiffe://example.org/agent//researcher",),
        ("spiffe://example.org/agent/researcher?x",),
        ("spiffe://example.org:443/agent/researcher",),
        ("spiffe://example.org/agent/researcher\x00.evil.example",),
        ("spiffe://example.org/agent/researcher\n",),
    ],
)
def test_a_certificate_without_exactly_one_spiffe_id_is_refused(uris: tuple[str, ...]) -> None:
    assert World().refuses(leaf(uris=uris, dns=("host.example",))) is Reason.IDENTITY_INVALID


def test_a_certificate_without_any_name_is_refused() -> None:
    assert World().refuses(leaf(uris=(), subject=RESEARCHER)) is Reason.IDENTITY_INVALID


def test_dns_names_and_subject_do_not_matter() -> None:
    assert World().ask(leaf(dns=("host.example",), subject=ADMIN)).id == RESEARCHER


@pytest.mark.parametrize(
    "names",
    [
        b"\xa3\x02\x30\x00",  # an x400Address, which is not supported
        b"\x86\x03\xff\xfe\xfd",  # a URI that is not ASCII
        b"\x01\x01",  # no name at all
    ],
)
def test_names_that_cannot_be_read_are_refused(names: bytes) -> None:
    raw = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"\x30" + bytes([len(names)]) + names)
    assert World().refuses(leaf(uris=(), more=((raw, True),))) is Reason.IDENTITY_INVALID


# Check 4: it is a leaf, with a strong key.


@pytest.mark.parametrize(
    "changes",
    [
        {"constraints": x509.BasicConstraints(True, None)},
        {"constraints": x509.BasicConstraints(True, 0)},
        {"usage": None},
        {"usage": usage("key_encipherment")},
        {"usage": usage("digital_signature", "key_cert_sign")},
        {"usage": usage("digital_signature", "crl_sign")},
        {"usage_critical": False},
        {"purposes": (SERVER,)},
        {"purposes": (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)},
        {"purposes": (ExtendedKeyUsageOID.CODE_SIGNING,)},
        {"more": ((x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True),)},
        {"more": ((x509.UnrecognizedExtension(ExtensionOID.KEY_USAGE, b"\x01"), True),), "usage": None},
    ],
    ids=[
        "a CA", "a CA of leaves", "no key usage", "may not sign", "may sign certificates", "may sign CRLs",
        "key usage not critical", "servers only", "any purpose", "another purpose", "an unknown critical extension",
        "a broken key usage",
    ],
)  # fmt: skip
def test_what_is_no_leaf_of_a_client_is_refused(changes: dict[str, Any]) -> None:
    assert World().refuses(leaf(**changes)) is Reason.IDENTITY_INVALID


@pytest.mark.parametrize(
    "changes",
    [
        {"constraints": None},
        {"purposes": None},
        {"purposes": (CLIENT,)},
        {"usage": usage("digital_signature", "key_encipherment", "key_agreement")},
        {"more": ((x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00"), False),)},
    ],
    ids=["no basic constraints", "no purposes", "clients only", "more usages", "an unknown extension"],
)
def test_what_the_standard_leaves_open_is_accepted(changes: dict[str, Any]) -> None:
    assert World().ask(leaf(**changes)).id == RESEARCHER


WEAK: dict[str, Callable[[], CertificateIssuerPrivateKeyTypes]] = {
    "RSA with 1024 bits": lambda: rsa.generate_private_key(65_537, 1_024),
    "P-224": lambda: ec.generate_private_key(ec.SECP224R1()),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
}
STRONG: dict[str, Callable[[], CertificateIssuerPrivateKeyTypes]] = {
    "RSA with 2048 bits": lambda: rsa.generate_private_key(65_537, 2_048),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}


@pytest.mark.parametrize("kind", WEAK)
def test_weak_keys_are_refused_in_leaves_and_in_cas(kind: str) -> None:
    assert World().refuses(make(Shape(), NOW, OURS, WEAK[kind]())) is Reason.IDENTITY_INVALID
    weak = make(ca_shape("weak"), NOW, OURS, WEAK[kind]())
    assert World().refuses(leaf(weak), weak) is Reason.IDENTITY_INVALID


@pytest.mark.parametrize("kind", STRONG)
def test_strong_keys_are_accepted(kind: str) -> None:
    assert World().ask(make(Shape(), NOW, OURS, STRONG[kind]())).id == RESEARCHER


LINK = ca(subject="fuzzed")
LEAF = leaf(LINK)


@pytest.mark.filterwarnings(
    "ignore:Parsed a serial number", "ignore:The parsed certificate", "ignore:Properties that return"
)
@given(st.data())
def test_whatever_is_shown_makes_a_principal_or_is_refused(data: st.DataObject) -> None:
    world, made = World(), [made.certificate.public_bytes(Encoding.DER) for made in (LEAF, LINK)]
    which, octets = data.draw(st.integers(0, 1)), data.draw(st.binary(min_size=1, max_size=3))
    at = data.draw(st.integers(0, 10_000)) % len(made[which])
    made[which] = made[which][:at] + octets + made[which][at + len(octets) :]
    shown = [b"-----BEGIN CERTIFICATE-----\n%s-----END CERTIFICATE-----\n" % base64.encodebytes(der) for der in made]
    with suppress(Refusal):
        world.authenticator.authenticate(PeerEvidence("ssl", "TLSv1.3", *shown), NOW)
