"""Each of the nine checks on an X.509-SVID, attacked with a certificate that fails it alone."""

import base64
import pickle
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, ObjectIdentifier
from hypothesis import given
from hypothesis import strategies as st

from broker.identity.directory import Directory, IdentityRule
from broker.identity.trust_bundles import TrustBundles
from broker.identity.x509 import Authenticator, PeerEvidence
from broker.model.compact_jws import base64url
from broker.model.errors import Reason, Refusal
from broker.model.principal import Principal, Role
from broker.system import system_clock
from tests.support.certificates import (
    CLIENT,
    HOUR,
    SERVER,
    Made,
    Shape,
    ca_shape,
    make,
    of_a_version_that_there_is_not,
    root,
    usage,
)

NOW = system_clock().replace(microsecond=0)
OURS, THEIRS, STRANGERS = root("ours", NOW), root("theirs", NOW), root("strangers", NOW)
RESEARCHER, ADMIN = "spiffe://example.org/agent/researcher", "spiffe://example.org/admin"
RULES = (
    IdentityRule("spiffe://example.org/agent/*", "acme", frozenset({Role.AGENTS})),
    IdentityRule(ADMIN, "*", frozenset({Role.OPERATORS})),
    IdentityRule("spiffe://other.example/*", "other", frozenset({Role.VERIFIERS})),
)
SECOND = timedelta(seconds=1)


@dataclass
class World:
    """The broker's side: bundles that can change, and an authenticator."""

    bundles: TrustBundles = field(
        default_factory=lambda: TrustBundles(
            1, {"example.org": (OURS.certificate,), "other.example": (THEIRS.certificate,)}
        )
    )
    denied: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.authenticator = Authenticator(lambda: self.bundles, Directory(RULES, self.denied))

    def ask(self, leaf: Made, *chain: Made, at: datetime = NOW) -> Principal:
        evidence = PeerEvidence("ssl", "TLSv1.3", leaf.pem, b"".join(link.pem for link in chain))
        return self.authenticator.authenticate(evidence, at)

    def refusal(self, leaf: Made, *chain: Made, at: datetime = NOW) -> Refusal:
        with pytest.raises(Refusal) as caught:
            self.ask(leaf, *chain, at=at)
        return caught.value

    def refuses(self, leaf: Made, *chain: Made, at: datetime = NOW) -> Reason:
        return self.refusal(leaf, *chain, at=at).reason


def leaf(issuer: Made | None = OURS, **changes: Any) -> Made:
    return make(replace(Shape(), **changes), NOW, issuer)


def ca(issuer: Made | None = OURS, **changes: Any) -> Made:
    return make(replace(ca_shape("intermediate"), **changes), NOW, issuer)


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


def test_who_is_foreign_is_called_so_whatever_is_shown() -> None:
    stranger = ca(STRANGERS)
    for chain in ((), (stranger,), (stranger, STRANGERS), (STRANGERS, stranger, OURS)):
        assert "does not lead to a root" in World().refusal(leaf(stranger), *chain).message


# What is shown, and what is remembered of it.


def test_a_certificate_that_is_none_of_the_chain_is_refused_each_time() -> None:
    world, link = World(), ca()
    good = leaf(link)
    for _ in range(2):
        for junk in (leaf(), leaf(STRANGERS), STRANGERS, THEIRS, ca(subject="another")):
            assert "not part of the chain" in world.refusal(good, link, junk).message
        assert world.ask(good, link).id == RESEARCHER
    for chain in ((good, link), (link, link), (OURS, link), (link, OURS)):
        assert world.ask(good, *chain).id == RESEARCHER


def test_more_than_a_chain_can_hold_is_not_looked_at() -> None:
    good = leaf()
    assert "more than 10 certificates" in World().refusal(good, *[OURS] * 11).message
    long = PeerEvidence("ssl", "TLSv1.3", good.pem, b"\n" * 65_536 + OURS.pem)
    with pytest.raises(Refusal, match="more than 64 KiB"):
        World().authenticator.authenticate(long, NOW)


def test_one_entry_of_a_bounded_size_is_remembered_per_leaf() -> None:
    world, good = World(), leaf()
    for number in range(100):
        padded = PeerEvidence("ssl", "TLSv1.3", good.pem, b"x" * 60_000 + b"\n%d\n" % number + OURS.pem)
        assert world.authenticator.authenticate(padded, NOW).id == RESEARCHER
    (entry,) = world.authenticator._remembered.items()
    assert len(pickle.dumps(entry)) < 4_096


def test_a_chain_longer_than_a_ca_allows_is_refused() -> None:
    upper = ca(subject="upper", constraints=x509.BasicConstraints(True, 0))
    lower = ca(upper, subject="lower")
    assert World().ask(leaf(upper), upper).id == RESEARCHER
    assert World().refuses(leaf(lower), lower, upper) is Reason.IDENTITY_INVALID


def test_a_removed_root_counts_at_once() -> None:
    world, good = World(), leaf()
    assert world.ask(good).id == RESEARCHER
    world.bundles = TrustBundles(2, {"example.org": (STRANGERS.certificate,)})
    assert world.refuses(good) is Reason.IDENTITY_INVALID
    world.bundles = TrustBundles(3, {"other.example": (THEIRS.certificate,)})
    assert world.refuses(good) is Reason.IDENTITY_INVALID


def test_old_and_new_root_are_good_while_a_trust_domain_rotates() -> None:
    world = World(TrustBundles(1, {"example.org": (OURS.certificate, STRANGERS.certificate)}))
    assert world.ask(leaf(OURS)).id == RESEARCHER
    assert world.ask(leaf(STRANGERS)).id == RESEARCHER


def test_a_remembered_leaf_does_not_vouch_for_another_chain() -> None:
    world, link = World(), ca()
    good = leaf(link)
    assert world.ask(good, link).id == RESEARCHER
    assert world.refuses(good) is Reason.IDENTITY_INVALID


# Check 7: nothing in the chain has expired, at the instant of each call.


def test_expiry_is_decided_on_each_call_by_the_clock_given() -> None:
    world, good = World(), leaf()
    end = NOW + HOUR
    assert world.ask(good, at=end - SECOND).id == RESEARCHER
    assert world.refuses(good, at=end) is Reason.IDENTITY_EXPIRED
    assert world.ask(good, at=end - SECOND).id == RESEARCHER
    assert world.refuses(good, at=end + 24 * HOUR) is Reason.IDENTITY_EXPIRED


def test_a_certificate_that_has_expired_before_its_first_call_is_called_so() -> None:
    assert World().refuses(leaf(after=-SECOND)) is Reason.IDENTITY_EXPIRED


@pytest.mark.parametrize("remembered", [False, True])
def test_a_certificate_is_not_valid_before_its_time(remembered: bool) -> None:
    world, early = World(), leaf(before=-HOUR, after=2 * HOUR)
    if remembered:
        assert world.ask(early, at=NOW + HOUR).id == RESEARCHER
    assert world.refuses(early, at=NOW + HOUR - SECOND) is Reason.IDENTITY_INVALID


def test_a_principal_ends_with_the_first_certificate_of_its_chain() -> None:
    world, link = World(), ca(after=timedelta(minutes=10))
    good = leaf(link)
    assert world.ask(good, link).not_after == NOW + timedelta(minutes=10)
    assert world.refuses(good, link, at=NOW + timedelta(minutes=10)) is Reason.IDENTITY_EXPIRED


def test_an_expired_root_is_none() -> None:
    world, good = World(), leaf(after=48 * HOUR)
    assert world.ask(good).not_after == OURS.certificate.not_valid_after_utc
    assert World().refuses(good, at=NOW + 25 * HOUR) is Reason.IDENTITY_INVALID


# Checks 8 and 9: who is denied, and who is known.


def test_who_is_denied_by_id_is_refused() -> None:
    world = World(denied=frozenset({RESEARCHER}))
    assert world.refuses(leaf()) is Reason.IDENTITY_INVALID
    assert world.ask(leaf(uris=(ADMIN,))).id == ADMIN


def test_who_is_denied_by_serial_is_refused() -> None:
    stolen, other = leaf(), leaf()
    world = World(denied=frozenset({f"{stolen.certificate.serial_number:x}"}))
    assert world.refuses(stolen) is Reason.IDENTITY_INVALID
    assert world.ask(other).id == RESEARCHER


def test_who_is_proven_but_unknown_is_told_so() -> None:
    assert World().refuses(leaf(uris=("spiffe://example.org/stranger",))) is Reason.IDENTITY_UNKNOWN


def test_a_refusal_is_not_remembered() -> None:
    world, good = World(TrustBundles(1, {})), leaf()
    assert world.refuses(good) is Reason.IDENTITY_INVALID
    world.bundles = World().bundles
    assert world.ask(good).id == RESEARCHER


def test_no_more_than_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.identity.x509._REMEMBERED", 2)
    world = World()
    for _ in range(4):
        world.ask(leaf())
    assert len(world.authenticator._remembered) == 2


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
