"""Credentials that are signed here, and verifiers that believe them and hear of no broker."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from broker.credential.claims import Claims
from broker.credential.keys import EcSigner, KeySet
from broker.model.grant import Grant
from broker.model.lease import Binding
from broker.sdk.verify.verifier import Verifier
from broker.system import system_clock

BROKER = "https://broker.example"
HOLDER = "spiffe://example.org/agent/researcher"


def believing(signer: EcSigner, verifier: Verifier) -> Verifier:
    """Have a verifier believe a signer's tokens for `acme`, and stay fresh for ever; return it."""
    verifier.use_keys(BROKER, KeySet.of([signer]))
    verifier.serve("acme")
    verifier.fresh_until(float("inf"))
    return verifier


def good_now(audience: str, grants: Sequence[Grant], binding: Binding) -> Claims:
    """Return the claims of a credential that is issued now, for five minutes."""
    now = system_clock().replace(microsecond=0)
    return Claims(
        issuer=BROKER,
        audience=audience,
        subject=HOLDER,
        lease_id="l-1",
        task_id="t-1",
        tenant="acme",
        index=10,
        grants=tuple(grants),
        binding=binding,
        issued_at=now,
        expires_at=now + timedelta(minutes=5),
    )
