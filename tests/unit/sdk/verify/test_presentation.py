"""A stolen token alone is useless: each binding, and what it asks of who presents it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from broker.credential import dpop, jose
from broker.credential.keys import EcSigner
from broker.model.errors import Reason, Refusal
from broker.model.lease import Binding
from broker.sdk.guard.mcp.http import McpGuard
from broker.sdk.verify.presentation import TOKEN_ALONE, Presentation
from broker.sdk.verify.verifier import Verifier
from tests.support.tokens import AT, CLAIMS, KEYS, SIGNER

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
    return opened(b"")


def opened(nonce_key: bytes) -> Verifier:
    verifier = Verifier(CLAIMS.audience, clock=lambda: NOW, nonce_key=nonce_key)
    verifier.use_keys(CLAIMS.issuer, KEYS)
    verifier.serve("acme")
    verifier.fresh_until(float("inf"))
    return verifier


def showing(
    key: EcSigner = KEY, token: str = BY_KEY, jti: str = "1", at: datetime = NOW, nonce: str = ""
) -> Presentation:
    request = dpop.ProvenRequest(method="POST", url=URL, token=token)
    return Presentation(proof=dpop.make(key, request, jti=jti, at=at, nonce=nonce), method="POST", url=URL)


@pytest.mark.parametrize(
    ("token", "presentation"),
    [
        (IDENTITY, Presentation(spiffe_id=CLAIMS.subject)),
        (BY_CERTIFICATE, Presentation(certificate=CERTIFICATE)),
        (BY_KEY, showing()),
        (BEARER, TOKEN_ALONE),
        (BEARER, Presentation(spiffe_id="spiffe://example.org/somebody")),
    ],
)
def test_the_holder_is_let_in(token: str, presentation: Presentation, verifier: Verifier) -> None:
    assert verifier.admit(token, presentation).tools == ("read_file", "list_files")


@pytest.mark.parametrize(
    ("token", "presentation", "reason"),
    [
        (IDENTITY, TOKEN_ALONE, Reason.HOLDER_MISMATCH),
        (IDENTITY, Presentation(spiffe_id="spiffe://example.org/agent/other"), Reason.HOLDER_MISMATCH),
        (IDENTITY, Presentation(certificate=CERTIFICATE), Reason.HOLDER_MISMATCH),
        (IDENTITY, showing(token=IDENTITY), Reason.HOLDER_MISMATCH),
        (BY_CERTIFICATE, TOKEN_ALONE, Reason.HOLDER_MISMATCH),
        (BY_CERTIFICATE, Presentation(spiffe_id=CLAIMS.subject), Reason.HOLDER_MISMATCH),
        (BY_CERTIFICATE, Presentation(spiffe_id=CLAIMS.subject, certificate="B" * 43), Reason.HOLDER_MISMATCH),
        (BY_KEY, TOKEN_ALONE, Reason.PROOF_INVALID),
        (BY_KEY, Presentation(spiffe_id=CLAIMS.subject), Reason.PROOF_INVALID),
        (BY_KEY, showing(EcSigner.generate()), Reason.HOLDER_MISMATCH),
        (BY_KEY, showing(token=BEARER), Reason.PROOF_INVALID),
        (BY_KEY, replace(showing(), url="https://repo.tools.example/delete_repo"), Reason.PROOF_INVALID),
        (BY_KEY, replace(showing(), method="GET"), Reason.PROOF_INVALID),
        (BY_KEY, showing(at=datetime(2029, 1, 1, tzinfo=UTC)), Reason.PROOF_INVALID),
    ],
)
def test_others_are_not(token: str, presentation: Presentation, reason: Reason, verifier: Verifier) -> None:
    with pytest.raises(Refusal) as refusal:
        verifier.admit(token, presentation)
    assert refusal.value.reason is reason


def test_a_stolen_request_cannot_be_sent_again(verifier: Verifier) -> None:
    presentation = showing()
    verifier.admit(BY_KEY, presentation)
    with pytest.raises(Refusal, match="used before"):
        verifier.admit(BY_KEY, presentation)
    verifier.admit(BY_KEY, showing(jti="2"))


def test_with_nonces_a_proof_made_beforehand_is_useless() -> None:
    verifier = opened(b"k" * 32)
    with pytest.raises(Refusal) as refusal:
        verifier.admit(BY_KEY, showing())
    assert refusal.value.reason is Reason.PROOF_NONCE_REQUIRED
    assert verifier.nonce()
    verifier.admit(BY_KEY, showing(nonce=verifier.nonce()))
    assert opened(b"").nonce() == ""


def test_a_key_that_could_be_guessed_is_refused() -> None:
    guards = (
        lambda key: Verifier(CLAIMS.audience, nonce_key=key),
        lambda key: McpGuard(nothing, opened(b""), authorization_servers=[], session_key=key),
    )
    for guard in guards:
        guard(b"k" * 32)
        with pytest.raises(Refusal, match="_key: must be a secret of at least 32 bytes"):
            guard(b"k" * 31)


async def nothing(_scope: object, _receive: object, _send: object) -> None:
    raise AssertionError("nobody calls it")
