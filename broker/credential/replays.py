"""What keeps a proof from being used twice: those seen within their time, and nonces that make that shorter."""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime

from broker.credential import dpop
from broker.credential.dpop import Proof
from broker.model.compact_jws import base64url
from broker.model.errors import Hints, Reason, Refusal
from broker.model.principal import Once

_SPAN = dpop.GOOD_FOR + dpop.LEEWAY
_MOST = 200_000
_NONCE_SPAN_SECONDS = 60
_MAC_SIZE = 16


class Replays:
    """The proofs that were seen, for as long as they would be good. Threads may share it.

    Two generations: when the newer is older than any proof may be, the older is forgotten whole.
    """

    def __init__(self) -> None:
        self._newer: dict[bytes, object] = {}
        self._older: dict[bytes, object] = {}
        self._since: datetime | None = None

    def use(self, proof: Proof, at: datetime) -> None:
        """Note that a proof is used.

        Raises:
            Refusal: PROOF_INVALID, if it was before; UNAVAILABLE, if so many are in use that it cannot be told.
        """
        self._turn(at)
        name = _name(proof)
        newer, mine = self._newer, object()
        if len(newer) >= _MOST:
            raise Refusal(
                Reason.UNAVAILABLE, "too many proofs are in use", Hints(next="try again in a minute, with a new proof")
            )
        # In one step: of two threads with the same proof, one is too late.
        if name in self._older or newer.setdefault(name, mine) is not mine:
            dpop.refuse("it was used before (`jti`)")

    def _turn(self, at: datetime) -> None:
        if self._since is None or at < self._since:
            self._since = at  # a clock that was put back makes nothing old
        elif at - self._since > _SPAN:
            self._since, self._older, self._newer = at, self._newer, {}


def once(proof: Proof) -> Once:
    """Return a proof as what is good for one time, whoever else is shown it."""
    return Once(name=f"dpop {_name(proof).hex()}", issued_at=proof.issued_at, until=proof.issued_at + _SPAN)


def _name(proof: Proof) -> bytes:
    return hashlib.sha256(f"{proof.thumbprint}\n{proof.jti}".encode()).digest()


class Nonces:
    """Nonces that prove a proof to be fresh (RFC 9449 section 8). They are told by their form: none is kept in mind."""

    def __init__(self, key: bytes) -> None:
        """Make nonces under a key of this process."""
        self._key = key

    def current(self, at: datetime) -> str:
        """Return the nonce of now."""
        return self._make(int(at.timestamp()) // _NONCE_SPAN_SECONDS)

    def check(self, proof: Proof, at: datetime) -> None:
        """Check that a proof holds the nonce of now, or the one before it.

        Raises:
            Refusal: PROOF_NONCE_REQUIRED, with the nonce to use.
        """
        number = int(at.timestamp()) // _NONCE_SPAN_SECONDS
        good = [hmac.compare_digest(proof.nonce.encode(), self._make(n).encode()) for n in (number, number - 1)]
        if not any(good):
            raise Refusal(
                Reason.PROOF_NONCE_REQUIRED,
                "the DPoP proof must hold the server's nonce",
                Hints(missing="nonce", next="make the proof again, with the nonce of the header DPoP-Nonce"),
            )

    def _make(self, number: int) -> str:
        mac = hmac.digest(self._key, number.to_bytes(8), "sha256")
        return base64url(mac[:_MAC_SIZE])
