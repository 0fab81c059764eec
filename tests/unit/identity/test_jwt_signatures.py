"""A JWT proves an identity only by a key of who it says issued it, and keys may change meanwhile."""

from __future__ import annotations

import hmac
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from broker.identity.issuers import CurrentKeys
from broker.identity.jwt import UnknownIssuerKey
from broker.model.errors import Reason, Refusal
from tests.support.issuer import base64url, segment
from tests.support.jwts import (
    CI,
    CLAIMS,
    EC,
    KEYS,
    NOW,
    OTHER,
    RSA,
    SVID,
    authenticator,
    key_set,
    refused,
    svid,
    workload,
)

# Check 1: the form.


def hmac_signed_with_the_public_key() -> str:
    """The classic: an RSA public key taken for an HMAC secret."""
    pem = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = f"{segment({'alg': 'HS256', 'kid': 'r1'})}.{segment(CLAIMS)}"
    return f"{signed}.{base64url(hmac.digest(pem, signed.encode(), 'sha256'))}"


# Check 3: the signature.


def test_3_a_forged_signature_is_refused() -> None:
    refused(workload(key=rsa.generate_private_key(65537, 2048)), told="signature is wrong")
    refused(svid(key=EC), told="signature is wrong")
    head, _, signature = workload().split(".")
    refused(f"{head}.{segment(CLAIMS | {'sub': 'root'})}.{signature}", told="signature is wrong")


def test_3_algorithms_are_not_confused() -> None:
    refused(hmac_signed_with_the_public_key(), told="algorithm is not one of")
    refused(workload({"alg": "ES256"}), told="signature is wrong")  # an RSA key cannot verify that
    refused(workload({"alg": "PS256"}), told="algorithm is not one of")  # good in itself, and not allowed here
    refused(svid({"alg": "EdDSA"}), told="algorithm is not one of")  # JWT-SVID section 2.1


@pytest.mark.parametrize("algorithms", [{"HS256"}, {"none"}, {"ES256", "HS256"}, set()])
def test_3_no_issuer_may_sign_with_what_the_verifier_holds_or_with_nothing(algorithms: set[str]) -> None:
    with pytest.raises(ValueError, match="the algorithms are"):
        replace(CI, algorithms=frozenset(algorithms))


def test_3_an_unknown_key_of_an_issuer_may_be_a_new_one() -> None:
    with pytest.raises(UnknownIssuerKey) as unknown:
        authenticator().authenticate(workload({"kid": "r2"}), NOW)
    assert unknown.value.issuer is CI


@pytest.mark.parametrize(
    ("published", "kid", "forged"), [("e1", "e1", True), ("e1", None, True), ("", None, False), ("", "e1", False)]
)
def test_3_a_key_is_looked_for_before_a_signature_is_called_wrong(published: str, kid: str, forged: bool) -> None:
    """An issuer may use a name for its next key again, or give its only key none."""
    keys = CurrentKeys(1, key_set((EC, published)))
    with pytest.raises(UnknownIssuerKey) as unknown:
        authenticator(keys=lambda: keys).authenticate(workload({"alg": "ES256", "kid": kid}, OTHER), NOW)
    assert unknown.value.forged is forged


def test_3_trust_domains_cannot_vouch_for_each_other() -> None:
    refused(svid({"kid": "other"}, OTHER), told="not in the bundle of its trust domain")
    refused(svid({"kid": None}, OTHER), told="signature is wrong")
    refused(svid({"kid": "svid"}, SVID, sub="spiffe://other.example/x"), told="not in the bundle of its trust domain")
    refused(workload(key=SVID, header={"alg": "ES256", "kid": None}), told="signature is wrong")
    refused(svid({"alg": "RS256", "kid": None}, RSA), told="signature is wrong")


def test_3_a_key_that_is_gone_counts_at_once() -> None:
    now = [KEYS]
    door = authenticator(keys=lambda: now[0])
    door.authenticate(workload(), NOW)
    now[0] = CurrentKeys(2, key_set((EC, "e1")))
    with pytest.raises(UnknownIssuerKey):
        door.authenticate(workload(), NOW)


def test_keys_that_cannot_be_had_refuse_for_now() -> None:
    def none() -> CurrentKeys:
        raise Refusal(Reason.UNAVAILABLE, "no keys")

    with pytest.raises(Refusal) as refusal:
        authenticator(keys=none).authenticate(workload(), NOW)
    assert refusal.value.reason is Reason.UNAVAILABLE
