"""Of a key set, what is strong and for signatures is taken; what is secret in it is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import OKPKey

from broker.identity.jwks import parse_jwks
from tests.support.issuer import base64url, compact, jwk

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())


def parsed(*entries: object) -> list[str]:
    return [key.kid for key in parse_jwks(json.dumps({"keys": entries}).encode()).keys]


def without(entry: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name not in names}


def test_keys_for_signatures_are_taken() -> None:
    assert parsed(jwk(RSA, "a"), jwk(EC, "b"), without(jwk(EC, "c"), "use", "alg"), without(jwk(EC, "d"), "kid")) == [
        "a",
        "b",
        "c",
        "",
    ]


@pytest.mark.parametrize(
    "entry",
    [
        jwk(RSA, "a", use="enc"),
        jwk(RSA, "a", alg="HS256"),
        jwk(RSA, "a", alg="RSA-OAEP"),
        jwk(RSA, "a", alg="ES256"),
        jwk(RSA, "a", alg=7),
        jwk(RSA, "a", key_ops=["encrypt"]),
        jwk(RSA, "a", key_ops="verify"),
        jwk(RSA, "a") | {"kid": 7},
        jwk(RSA, "a", n="AQAB"),
        jwk(rsa.generate_private_key(65537, 1024), "a"),
        jwk(EC, "a", crv="secp256k1"),
        jwk(EC, "a", x="AAAA"),
        without(jwk(EC, "a"), "y"),
        jwk(EC, "a", crv="P-224"),
        jwk(EC, "a", crv="brainpoolP256r1"),
        jwk(EC, "a", crv=["P-256"]),
        jwk(EC, "a", crv=None),
        jwk(EC, "a", x=7),
        jwk(EC, "a", x="\u00e4"),
        jwk(EC, "a", x="!" * 43),
        jwk(EC, "a", x="A" * 9_999),
        jwk(EC, "a", kty="OKP"),
        jwk(RSA, "a", kty=["RSA"]),
        jwk(RSA, "a", e="AQ"),
        jwk(RSA, "a", e="Ag"),
        jwk(RSA, "a", e=""),
        {"kty": "OKP", "crv": "Ed25519ctx", "x": base64url(bytes(range(32))), "kid": "a"},
        {"kty": "OKP", "crv": "Ed25519", "x": base64url(bytes(31)), "kid": "a"},
        {"kty": "OKP", "crv": "Ed448", "x": base64url(bytes(57)), "kid": "a"},
        {"kty": "AKP", "alg": "ML-DSA-65", "pub": "AAAA", "kid": "a"},
        {"kty": "DSA", "p": "AAAA", "q": "AAAA", "g": "AAAA", "y": "AAAA", "kid": "a"},
        {"kty": "weird", "k": "AAAA", "d": "AAAA", "kid": "a"},
        {"kty": "weird", "kid": "a"},
        {"kid": "a"},
        {"kty": "OKP", "crv": "X25519", "x": base64url(bytes(range(32))), "kid": "a"},
    ],
)
def test_other_keys_are_passed_over(entry: dict[str, Any]) -> None:
    assert parsed(entry, jwk(EC, "good")) == ["good"]


@pytest.mark.parametrize("name", ["use", "alg", "key_ops", "x5c", "d"])
def test_a_member_that_is_null_is_not_there(name: str) -> None:
    assert parsed(jwk(EC, "a") | {name: None}) == ["a"]


_ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
_MEMBERS = ["kty", "crv", "x", "y", "n", "e", "kid", "use", "alg", "key_ops"]


@given(
    st.sampled_from([jwk(RSA, "a"), jwk(EC, "a"), {"kty": "OKP", "crv": "Ed25519", "x": base64url(bytes(32))}]),
    st.dictionaries(st.sampled_from(_MEMBERS), _ODD, min_size=1),
)
def test_no_key_however_odd_keeps_those_beside_it_from_being_taken(entry: dict[str, Any], odd: dict[str, Any]) -> None:
    data = json.dumps({"keys": [entry | odd, jwk(EC, "good")]}).encode()
    assert "good" in [key.kid for key in parse_jwks(data).keys]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": [7]}',
        b'{"keys": [], "keys": []}',
        b"<html>",
        b"\xff",
        b'{"keys": [' + b" " * 256 * 1024 + b"]}",
        json.dumps({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}).encode(),
        json.dumps({"keys": [jwk(EC, "a", d="AAAA")]}).encode(),
        json.dumps({"keys": [jwk(RSA, "a", p="AAAA")]}).encode(),
    ],
)
def test_what_is_no_public_key_set_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        parse_jwks(data)


def test_an_empty_set_means_that_nothing_is_trusted() -> None:
    assert parsed() == []


def test_a_bundle_of_jwt_svids_holds_keys_of_its_own_use() -> None:
    entries = [jwk(EC, "x", use="x509-svid"), jwk(EC, "j", use="jwt-svid")]
    data = json.dumps({"keys": entries, "spiffe_sequence": 3, "spiffe_refresh_hint": 60}).encode()
    assert [key.kid for key in parse_jwks(data, use="jwt-svid").keys] == ["j"]


@pytest.mark.parametrize("algorithm", ["EdDSA", "Ed25519"])
@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
def test_ed25519_goes_by_both_its_names(algorithm: str) -> None:
    private = ed25519.Ed25519PrivateKey.generate()
    x = base64url(private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
    (key,) = parse_jwks(json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "e"}]}).encode()).keys
    token = jws.serialize_compact({"alg": algorithm}, b"{}", OKPKey.import_key(private), algorithms=[algorithm])
    assert key.verify(token, algorithm)
    assert not key.verify(token, "ES256")


def test_a_key_verifies_by_the_algorithm_that_is_asked_for_and_no_other() -> None:
    (key,) = parse_jwks(json.dumps({"keys": [without(jwk(RSA, "a"), "alg")]}).encode()).keys
    token = compact(RSA, {"alg": "RS256"}, {})
    assert key.verify(token, "RS256")
    assert not key.verify(token, "PS256")
    assert not key.verify(token, "HS256")
    assert not key.verify(token, "none")
