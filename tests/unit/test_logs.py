"""Law 7, in logs: whatever is logged, and wherever in it, a secret is not to be read."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from broker import logs
from broker.credential import jose
from broker.sdk.client.secret import Secret
from tests.support.tokens import CLAIMS, SIGNER

TOKEN = jose.encode(CLAIMS, SIGNER)
PEM = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
BODY = PEM.splitlines()[1]


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Standard error, with logs set up as the daemon's."""
    before, stream = structlog.get_config(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure()
    yield stream
    structlog.configure(**before)


class Thing:
    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"Thing({self.text})"


EVENTS: dict[str, dict[str, Any]] = {
    "alone": {"message": TOKEN},
    "within": {"message": f"Bearer {TOKEN} was refused"},
    "bytes": {"message": TOKEN.encode()},
    "deep": {"message": {"inner": [{"deep": TOKEN}]}},
    "in a set": {"message": {TOKEN}},
    "of a thing": {"message": Thing(TOKEN)},
    "of a thing in a list": {"message": [Thing(TOKEN)]},
    "by name": {"token": "anything"},
    "by a header's name": {"headers": {"Authorization": "Basic anything"}},
    "by part of a name": {"secret_thing": "anything"},
    "by the end of a name": {"db_password": "anything"},
    "in a url": {"message": "postgresql://user:anything@db.example/broker"},
    "a private key": {"message": f"key: {PEM}"},
    "half a private key": {"message": PEM[: len(PEM) // 2]},
    "wrapped": {"message": Secret("anything")},
}


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS.keys())
def test_a_secret_is_hidden(event: dict[str, Any], printed: io.StringIO) -> None:
    structlog.get_logger("test").info("happened", **event)
    told = printed.getvalue()
    assert not any(secret in told for secret in (TOKEN, TOKEN.rpartition(".")[2], BODY, "anything"))
    assert json.loads(told)["event"] == "happened"


def test_a_secret_is_hidden_in_what_an_exception_says(printed: io.StringIO) -> None:
    try:
        raise ValueError(TOKEN)  # noqa: TRY301
    except ValueError:
        structlog.get_logger("test").exception("failed")
    assert "ValueError" in printed.getvalue()
    assert TOKEN.rpartition(".")[2] not in printed.getvalue()


def test_what_is_no_secret_is_told() -> None:
    event = {"lease": CLAIMS.lease_id, "count": 3, "ok": True, "none": None, "url": "postgresql://db.example/broker"}
    assert logs.hide_secrets(None, "info", dict(event)) == event


def test_a_secret_in_hand_does_not_show_itself() -> None:
    secret = Secret(TOKEN)
    assert TOKEN not in f"{secret} {secret!r} {[secret]} {vars(secret) if hasattr(secret, '__dict__') else ''}"
    assert secret.reveal() == TOKEN
