"""A signed token, and ones that are like it but for one thing."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from broker.credential import jose
from broker.credential.claims import Claims, to_payload
from broker.credential.keys import EcSigner, KeySet
from broker.model.errors import Reason, Refusal
from broker.model.grant import Constraint, Grant, Operator
from broker.model.lease import Binding

PRIVATE = ec.generate_private_key(ec.SECP256R1())
SIGNER = EcSigner.of(PRIVATE)
KEYS = KeySet.of([SIGNER])
AT = datetime(2030, 1, 1, 12, tzinfo=UTC)
CLAIMS = Claims(
    issuer="https://broker.example",
    audience="https://repo.tools.example",
    subject="spiffe://example.org/agent/researcher",
    lease_id="0198f3c2-7b1e-7c11-9d3a-5b1c2f7d9e40",
    task_id="0198f3c2-7b1e-7c11-9d3a-5b1c2f7d9e41",
    tenant="acme",
    index=7,
    grants=(
        Grant("read_file", (Constraint("/repo", Operator.EQ, ("acme/web",)), Constraint("/ref", Operator.ABSENT))),
        Grant("list_files", (Constraint("/depth", Operator.RANGE, (1, 5)),)),
    ),
    binding=Binding.IDENTITY,
    issued_at=AT,
    expires_at=AT + timedelta(minutes=5),
)
TOKEN = jose.encode(CLAIMS, SIGNER)
HEADER = {"alg": "ES256", "typ": "at+jwt", "kid": SIGNER.kid}
PAYLOAD = to_payload(CLAIMS)


def segment(content: bytes | str | object) -> str:
    data = content if isinstance(content, bytes) else content.encode() if isinstance(content, str) else to_json(content)
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def to_json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def token(header: object = HEADER, payload: object = PAYLOAD) -> str:
    """Sign whatever it is, with the right key."""
    signed = f"{segment(header)}.{segment(payload)}"
    return f"{signed}.{segment(SIGNER.sign(signed.encode()))}"


def refused(text: str) -> None:
    with pytest.raises(Refusal) as refusal:
        jose.decode(text, KEYS)
    assert refusal.value.reason is Reason.TOKEN_INVALID
    if len(text) > 20:
        assert text not in str(refusal.value)
        assert text[-20:] not in str(refusal.value)
