"""An X.509-SVID is good under a root of its own trust domain, by a chain in which each may sign the next."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from broker.identity.trust_bundles import TrustBundles
from broker.model.errors import Reason
from tests.support.certificates import (
    CLIENT,
    HOUR,
    SERVER,
    Made,
    Shape,
    ca_shape,
    make,
    root,
    usage,
)
from tests.support.svids import ADMIN, NOW, OURS, RESEARCHER, SECOND, STRANGERS, THEIRS, World, ca, leaf

# Checks 5 and 6: a trust domain of ours, and a chain to a root of that very one.


def test_a_trust_domain_that_is_not_ours_is_refused() -> None:
    foreign = leaf(STRANGERS, uris=("spiffe://strangers.example/agent/researcher",))
    assert World().refuses(foreign) is Reason.IDENTITY_INVALID


def test_a_federated_root_vouches_for_its_own_trust_domain() -> None:
    assert World().ask(leaf(THEIRS, uris=("spiffe://other.example/tool",))).tenant == "other"


@pytest.mark.parametrize("issuer", [THEIRS, STRANGERS], ids=["trusted for another trust domain", "unknown"])
def test_another_root_may_not_sign_in_the_name_of_our_trust_domain(issuer: Made) -> None:
    forged = leaf(issuer, uris=(ADMIN,))
    assert World().refuses(forged) is Reason.IDENTITY_INVALID
    assert World().refuses(forged, issuer) is Reason.IDENTITY_INVALID


def test_our_root_may_not_sign_in_the_name_of_another_trust_domain() -> None:
    assert World().refuses(leaf(OURS, uris=("spiffe://other.example/tool",))) is Reason.IDENTITY_INVALID


def test_a_root_of_the_same_name_with_another_key_is_not_ours() -> None:
    impostor = root("ours", NOW)
    assert World().refuses(leaf(impostor)) is Reason.IDENTITY_INVALID
    assert World().refuses(leaf(impostor), impostor) is Reason.IDENTITY_INVALID


def test_who_signs_themselves_is_nobody() -> None:
    alone = leaf(None)
    assert World().refuses(alone) is Reason.IDENTITY_INVALID
    assert World().refuses(alone, alone) is Reason.IDENTITY_INVALID


def test_a_changed_byte_breaks_the_signature() -> None:
    good = leaf().certificate
    changed = good.public_bytes(Encoding.DER).replace(b"/agent/researcher", b"/agent/researchez")
    forged = x509.load_der_x509_certificate(changed)
    assert World().refuses(Made(forged, OURS.key)) is Reason.IDENTITY_INVALID


def test_intermediates_lead_to_the_root() -> None:
    upper = ca(subject="upper")
    lower = ca(upper, subject="lower")
    assert World().ask(leaf(lower), lower, upper).id == RESEARCHER
    assert World().ask(leaf(upper), OURS, upper).id == RESEARCHER


def test_a_chain_with_a_link_missing_is_refused() -> None:
    upper = ca(subject="upper")
    lower = ca(upper, subject="lower")
    assert World().refuses(leaf(lower)) is Reason.IDENTITY_INVALID
    assert World().refuses(leaf(lower), lower) is Reason.IDENTITY_INVALID
    assert World().refuses(leaf(lower), upper) is Reason.IDENTITY_INVALID


def test_a_workload_cannot_sign_for_another() -> None:
    workload = leaf(subject="a workload")
    assert World().ask(workload).id == RESEARCHER
    assert World().refuses(leaf(workload, uris=(ADMIN,)), workload) is Reason.IDENTITY_INVALID


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"constraints": None}, "not that of a CA"),
        ({"constraints": x509.BasicConstraints(False, None)}, "not that of a CA"),
        ({"usage": usage("digital_signature")}, "may not sign certificates"),
        ({"usage": usage("crl_sign")}, "may not sign certificates"),
        (
            {"more": ((x509.NameConstraints([x509.UniformResourceIdentifier("other.example")], None), True),)},
            "limits of one of its CAs",
        ),
        ({"purposes": (SERVER,)}, "may not vouch for clients"),
        ({"purposes": (ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.OCSP_SIGNING)}, "may not vouch"),
        ({"before": -HOUR, "after": 2 * HOUR}, "not valid yet"),
        ({"after": -SECOND}, "has expired"),
    ],
    ids=[
        "no basic constraints", "no CA", "may not sign certificates", "may sign CRLs only", "for other names",
        "for servers", "for other ends", "not valid yet", "expired",
    ],
)  # fmt: skip
def test_an_intermediate_that_may_not_sign_breaks_the_chain_and_is_told(changes: dict[str, Any], told: str) -> None:
    upper = ca(subject="upper", **changes)
    lower = ca(upper, subject="lower")
    for refusal in (World().refusal(leaf(upper), upper), World().refusal(leaf(lower), lower, upper)):
        assert refusal.reason is Reason.IDENTITY_INVALID
        assert told in refusal.message


@pytest.mark.parametrize("purposes", [(CLIENT,), (SERVER, CLIENT), (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)])
def test_cas_for_clients_may_vouch_for_clients(purposes: tuple[ObjectIdentifier, ...]) -> None:
    upper = ca(subject="upper", purposes=purposes)
    lower = ca(upper, subject="lower", purposes=purposes)
    assert World().ask(leaf(lower), lower, upper).id == RESEARCHER


def test_a_purpose_of_any_ca_in_the_chain_counts() -> None:
    upper = ca(subject="upper", purposes=(SERVER,))
    lower = ca(upper, subject="lower", purposes=(CLIENT,))
    assert "may not vouch for clients" in World().refusal(leaf(lower), lower, upper).message
    for_servers = make(replace(ca_shape("servers"), purposes=(SERVER,)), NOW)
    world = World(TrustBundles(1, {"example.org": (for_servers.certificate,)}))
    assert "may not vouch for clients" in world.refusal(leaf(for_servers)).message


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (ed25519.Ed25519PrivateKey.generate, "Ed25519"),
        (ed448.Ed448PrivateKey.generate, "Ed448"),
        (lambda: rsa.generate_private_key(65_537, 1_024), "RSA with 1024 bits"),
        (lambda: ec.generate_private_key(ec.SECP224R1()), "secp224r1"),
    ],
)
def test_a_key_that_no_ca_may_have_is_told(kind: Callable[[], CertificateIssuerPrivateKeyTypes], told: str) -> None:
    if told != "Ed25519":
        assert (
            f"the certificate has a key of {told}; use P-256"
            in World().refusal(make(Shape(), NOW, OURS, kind())).message
        )
    odd = make(ca_shape("odd"), NOW, None, kind())
    world = World(TrustBundles(1, {"example.org": (odd.certificate,)}))
    assert f"has a key of {told}; use P-256" in world.refusal(leaf(odd)).message
    link = make(ca_shape("odd"), NOW, OURS, kind())
    assert f"has a key of {told}; use P-256" in World().refusal(leaf(link), link).message


SHA256_WITH_RSA = bytes.fromhex("2a864886f70d01010b")


@pytest.mark.parametrize(("digest", "last", "name"), [(hashes.SHA1(), 0x05, "SHA-1"), (hashes.MD5(), 0x04, "MD5")])
def test_a_signature_that_can_be_forged_is_told(digest: hashes.HashAlgorithm, last: int, name: str) -> None:
    """The builder makes none such, so a good certificate is given the other algorithm and signed again."""
    key = rsa.generate_private_key(65_537, 2_048)
    issuer = make(ca_shape("old"), NOW, None, key)
    good = leaf(issuer)
    weak = SHA256_WITH_RSA[:-1] + bytes([last])
    signed = good.certificate.tbs_certificate_bytes.replace(SHA256_WITH_RSA, weak)
    changed = good.certificate.public_bytes(Encoding.DER).replace(SHA256_WITH_RSA, weak)
    signature = key.sign(signed, padding.PKCS1v15(), digest)
    forged = x509.load_der_x509_certificate(changed.replace(good.certificate.signature, signature))
    world = World(TrustBundles(1, {"example.org": (issuer.certificate,)}))
    assert world.ask(good).id == RESEARCHER
    refusal = world.refusal(Made(forged, good.key))
    assert refusal.reason is Reason.IDENTITY_INVALID
    assert f"a signature in the certificate's chain is made with {name}" in refusal.message


def test_who_is_foreign_is_called_so_whatever_is_shown() -> None:
    stranger = ca(STRANGERS)
    for chain in ((), (stranger,), (stranger, STRANGERS), (STRANGERS, stranger, OURS)):
        assert "does not lead to a root" in World().refusal(leaf(stranger), *chain).message


def test_a_chain_longer_than_a_ca_allows_is_refused() -> None:
    upper = ca(subject="upper", constraints=x509.BasicConstraints(True, 0))
    lower = ca(upper, subject="lower")
    assert World().ask(leaf(upper), upper).id == RESEARCHER
    assert World().refuses(leaf(lower), lower, upper) is Reason.IDENTITY_INVALID
