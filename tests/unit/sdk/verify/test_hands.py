"""A stolen token alone is useless: each binding, and what it asks of the hands that a credential is in."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from broker.credential import dpop, jose
from broker.credential.keys import EcSigner
from broker.credential.replays import Nonces
from broker.model.errors import Reason, Refusal
from broker.model.lease import Binding
from broker.sdk.verify.hands import ANY_HANDS, Hands
from broker.sdk.verify.verifier import Verifier
from tests.tokens import AT, CLAIMS, KEYS, SIGNER

KEY = EcSigner.generate()
URL = "https://repo.tools.example/read_file"
CERTIFICATE = "A" * 43
NOW = AT.replace(tzinfo=UTC)


def bound(binding: Binding, confirmation: str = "") -> str:
    return jose.encode(replace(CLAIMS, binding=binding, confirmation=confirmation), SIGNER)


IDENTITY, BEARER = bound(Binding.IDENTITY), bound(Binding.BEARER)
BY_CERTIFICATE, BY_KEY = bound(Binding.CERTIFICATE, CERTIFICATE), bound(Binding.DPOP, KEY.kid)


@pytest.fixture
def verifier() -> Verifier:
    return opened(None)


def opened(nonces: Nonces | None) -> Verifier:
    verifier = Verifier(CLAIMS.audience, clock=lambda: NOW, nonces=nonces)
    verifier.use_keys(CLAIMS.issuer, KEYS)
    verifier.serve("acme")
    verifier.fresh_until(float("inf"))
    return verifier


def showing(key: EcSigner = KEY, token: str = BY_KEY, jti: str = "1", at: datetime = NOW, nonce: str = "") -> Hands:
    request = dpop.Request(method="POST", url=URL, token=token)
    return Hands(proof=dpop.make(key, request, jti=jti, at=at, nonce=nonce), method="POST", url=URL)


@pytest.mark.parametrize(
    ("token", "hands"),
    [
        (IDENTITY, Hands(spiffe_id=CLAIMS.subject)),
        (BY_CERTIFICATE, Hands(certificate=CERTIFICATE)),
        (BY_KEY, showing()),
        (BEARER, ANY_HANDS),
        (BEARER, Hands(spiffe_id="spiffe://example.org/somebody")),
    ],
)
def test_the_right_hands_are_let_in(token: str, hands: Hands, verifier: Verifier) -> None:
    assert verifier.admit(token, hands).tools == ("read_file", "list_files")


@pytest.mark.parametrize(
    ("token", "hands", "reason"),
    [
        (IDENTITY, ANY_HANDS, Reason.HOLDER_MISMATCH),
        (IDENTITY, Hands(spiffe_id="spiffe://example.org/agent/other"), Reason.HOLDER_MISMATCH),
        (IDENTITY, Hands(certificate=CERTIFICATE), Reason.HOLDER_MISMATCH),
        (IDENTITY, showing(token=IDENTITY), Reason.HOLDER_MISMATCH),
        (BY_CERTIFICATE, ANY_HANDS, Reason.HOLDER_MISMATCH),
        (BY_CERTIFICATE, Hands(spiffe_id=CLAIMS.subject), Reason.HOLDER_MISMATCH),
        (BY_CERTIFICATE, Hands(spiffe_id=CLAIMS.subject, certificate="B" * 43), Reason.HOLDER_MISMATCH),
        (BY_KEY, ANY_HANDS, Reason.PROOF_INVALID),
        (BY_KEY, Hands(spiffe_id=CLAIMS.subject), Reason.PROOF_INVALID),
        (BY_KEY, showing(EcSigner.generate()), Reason.HOLDER_MISMATCH),
        (BY_KEY, showing(token=BEARER), Reason.PROOF_INVALID),
        (BY_KEY, replace(showing(), url="https://repo.tools.example/delete_repo"), Reason.PROOF_INVALID),
        (BY_KEY, replace(showing(), method="GET"), Reason.PROOF_INVALID),
        (BY_KEY, showing(at=datetime(2029, 1, 1, tzinfo=UTC)), Reason.PROOF_INVALID),
    ],
)
def test_other_hands_are_not(token: str, hands: Hands, reason: Reason, verifier: Verifier) -> None:
    with pytest.raises(Refusal) as refusal:
        verifier.admit(token, hands)
    assert refusal.value.reason is reason


def test_a_stolen_request_cannot_be_sent_again(verifier: Verifier) -> None:
    hands = showing()
    verifier.admit(BY_KEY, hands)
    with pytest.raises(Refusal, match="used before"):
        verifier.admit(BY_KEY, hands)
    verifier.admit(BY_KEY, showing(jti="2"))


def test_with_nonces_a_proof_made_beforehand_is_useless() -> None:
    nonces = Nonces(b"k" * 32)
    verifier = opened(nonces)
    with pytest.raises(Refusal) as refusal:
        verifier.admit(BY_KEY, showing())
    assert refusal.value.reason is Reason.PROOF_NONCE_REQUIRED
    assert verifier.nonce()
    verifier.admit(BY_KEY, showing(nonce=verifier.nonce()))
    assert opened(None).nonce() == ""
