"""What the Workload API pushes is read strictly: what is wrong is not taken, and a bundle costs nothing but itself."""

from __future__ import annotations

import contextlib
import json
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from broker.identity.spiffe import parse_spiffe_id
from broker.identity.trust_bundles import parse_certificates
from broker.sandbox.certificates import Svid, issue_svid
from broker.system import system_clock
from broker.trust.workload_pushes import read_jwt, read_x509
from broker.trust.workload_stream import UnusablePush
from tests.support.certificates import Shape, make
from tests.support.fakes import authority
from tests.support.issuer import jwk
from tests.support.workload_api_server import der, jwt_response, x509_response, x509_svid

OURS, PARTNER = "spiffe://example.org/broker", "spiffe://partner.example"
NOW = system_clock()
ROOT, OTHER, FOREIGN = authority(), authority(), authority("partner.example")
KEYS = json.dumps({"keys": [jwk(ec.generate_private_key(ec.SECP256R1()), "p1", use="jwt-svid")]}).encode()
OWN = issue_svid(ROOT, parse_spiffe_id(OURS), ["localhost"], timedelta(hours=1), NOW)
MONTGOMERY = x25519.X25519PrivateKey.generate().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def push(federated: dict[str, bytes] | None = None, **changes: Any) -> bytes:
    found = x509_svid(changes.pop("spiffe_id", OURS), OWN, ROOT.cert_pem, **changes)
    return x509_response(found, federated=federated)


def of(shape: Shape, spiffe_id: str = OURS) -> bytes:
    made = make(shape, NOW)
    return x509_response(x509_svid(spiffe_id, Svid(made.pem, made.key_pem), ROOT.cert_pem))


def test_a_push_is_read_as_it_is() -> None:
    found = read_x509(push({PARTNER: der(FOREIGN.cert_pem + OTHER.cert_pem)}), NOW)
    assert (found.cert_chain_pem, found.private_key_pem) == (OWN.cert_pem, OWN.key_pem)
    assert found.roots == {
        "example.org": parse_certificates(ROOT.cert_pem),
        "partner.example": parse_certificates(FOREIGN.cert_pem + OTHER.cert_pem),
    }
    assert found.not_after - NOW > timedelta(minutes=59)
    assert timedelta(minutes=14) < found.not_after - found.overdue_at < timedelta(minutes=16)
    assert "PRIVATE" not in repr(found)


def test_the_same_push_later_is_the_same() -> None:
    assert read_x509(push(), NOW) == read_x509(push(), NOW + timedelta(minutes=1))
    keys = json.dumps({"keys": [jwk(ec.generate_private_key(ec.SECP256R1()), "k1")]}).encode()
    assert read_jwt(jwt_response({PARTNER: keys})) == read_jwt(jwt_response({PARTNER: keys}))
    assert read_jwt(jwt_response({PARTNER: keys})) != read_jwt(jwt_response({PARTNER: b'{"keys":[]}'}))
    assert read_jwt(jwt_response({PARTNER: b""})).keys["partner.example"].keys == ()


def test_a_chain_is_good_for_as_long_as_all_of_it() -> None:
    brief = make(Shape(uris=(), after=timedelta(minutes=5)), NOW)
    found = read_x509(push(x509_svid=der(OWN.cert_pem + brief.pem)), NOW)
    assert found.not_after == brief.certificate.not_valid_after_utc


UNUSABLE: dict[str, tuple[str, bytes]] = {
    "no message": ("not an X509SVIDResponse", b"\xff"),
    "an empty message": ("holds no X.509-SVID", b""),
    "bundles alone": ("holds no X.509-SVID", x509_response(federated={PARTNER: der(FOREIGN.cert_pem)})),
    "no certificate": ("SVID is missing", push(x509_svid=b"")),
    "half a certificate": ("not made of certificates", push(x509_svid=der(OWN.cert_pem)[:-1])),
    "one octet": ("not made of certificates", push(x509_svid=b"\x30")),
    "an endless length": ("not made of certificates", push(x509_svid=b"\x30\xff" + b"\xff" * 200)),
    "a certificate with something behind it": ("not made of", push(x509_svid=der(OWN.cert_pem) + b"\x00")),
    "a certificate in PEM": ("not made of certificates", push(x509_svid=OWN.cert_pem)),
    "no key": ("key is malformed", push(x509_svid_key=b"")),
    "a key in PEM": ("key is malformed", push(x509_svid_key=OWN.key_pem)),
    "a key of an odd kind": ("not that of", push(x509_svid_key=MONTGOMERY)),
    "no ID": ("SPIFFE ID is none", push(spiffe_id="")),
    "an ID of another": ("not one of", push(spiffe_id=OURS + "/x")),
    "an ID with a newline": ("SPIFFE ID is none", push(spiffe_id=OURS + "\n")),
    "a certificate without names": ("SPIFFE ID is none", of(Shape(uris=()))),
    "a certificate with two names": ("not one of", of(Shape(uris=(OURS, OURS + "/x")))),
    "a certificate with a newline in its name": ("not one of", of(Shape(uris=(OURS + "\n",)))),
    "no bundle of our own": ("bundle is missing", push(bundle=b"")),
    "a broken bundle of our own": ("not made of certificates", push(bundle=der(ROOT.cert_pem)[:-1])),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_a_push_that_is_wrong_in_one_place_is_unusable(case: str) -> None:
    why, message = UNUSABLE[case]
    with pytest.raises(UnusablePush, match=why):
        read_x509(message, NOW)


def test_an_svid_is_good_until_the_instant_that_it_names() -> None:
    end = read_x509(push(), NOW).not_after
    assert read_x509(push(), end - timedelta(microseconds=1)).not_after == end
    with pytest.raises(UnusablePush, match="compare the clocks"):
        read_x509(push(), end)


@pytest.mark.parametrize(
    "message",
    [
        jwt_response({PARTNER: b"{}"}),
        jwt_response({PARTNER: b'{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}'}),
        jwt_response({"partner.example": b'{"keys":[]}'}),
        jwt_response({PARTNER + "/x": b'{"keys":[]}'}),
        jwt_response({PARTNER + "\n": b""}),
    ],
)
def test_a_jwt_bundle_that_is_wrong_costs_nothing_but_itself(message: bytes) -> None:
    found = read_jwt(message)
    assert (found.keys, len(found.broken)) == ({}, 1)
    before = read_jwt(jwt_response({PARTNER: KEYS}))
    after = read_jwt(message, before)
    assert after.keys == ({"partner.example": before.keys["partner.example"]} if PARTNER[9:] in after.broken else {})


def test_what_is_no_message_of_jwt_bundles_is_unusable() -> None:
    with pytest.raises(UnusablePush):
        read_jwt(b"\xff")


@pytest.mark.parametrize(
    ("name", "bundle", "why"),
    [
        (PARTNER, b"\x30\x00", "not made of certificates"),
        (PARTNER, der(FOREIGN.cert_pem)[:-1], "not made of certificates"),
        ("partner.example", der(FOREIGN.cert_pem), "no SPIFFE ID"),
        (PARTNER + "\n", der(FOREIGN.cert_pem), "no SPIFFE ID"),
        (PARTNER + "/x", der(FOREIGN.cert_pem), "no trust domain"),
    ],
)
def test_a_bundle_that_is_wrong_costs_nothing_but_itself(name: str, bundle: bytes, why: str) -> None:
    before = read_x509(push({PARTNER: der(FOREIGN.cert_pem)}), NOW)
    third = {"spiffe://third.example": der(OTHER.cert_pem)}
    found = read_x509(push({name: bundle, **third}), NOW, before)
    own = {"example.org": parse_certificates(ROOT.cert_pem)}
    kept = {"partner.example": parse_certificates(FOREIGN.cert_pem)}
    rest = own | {"third.example": parse_certificates(OTHER.cert_pem)}
    assert found.roots == (rest | kept if name == PARTNER else rest)
    assert why in " ".join(found.broken.values())
    assert read_x509(push({name: bundle, **third}), NOW).roots == rest


def test_a_broken_bundle_of_our_own_keeps_no_svid_from_being_taken() -> None:
    before = read_x509(push(), NOW)
    found = read_x509(push(bundle=der(ROOT.cert_pem)[:-1]), NOW, before)
    assert (found.roots, list(found.broken)) == (before.roots, ["example.org"])


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@given(st.data())
def test_whatever_is_pushed_is_read_or_refused(data: st.DataObject) -> None:
    good = data.draw(st.sampled_from([push({PARTNER: der(FOREIGN.cert_pem)}), jwt_response({PARTNER: b'{"keys":[]}'})]))
    at, octet = data.draw(st.integers(0, len(good) - 1)), data.draw(st.binary(max_size=3))
    bent = good[:at] + octet + good[at + 1 :]
    for message in (bent, good[:at], octet):
        with contextlib.suppress(UnusablePush):
            read_x509(message, NOW)
        with contextlib.suppress(UnusablePush):
            read_jwt(message)
