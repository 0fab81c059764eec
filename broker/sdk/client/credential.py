"""A credential as its holder has it."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from broker.model.errors import Refusal
from broker.sdk.client.possession import Prover
from broker.sdk.client.secret import Secret


@dataclass(slots=True, kw_only=True)
class Credential:
    """A credential in hand, for one resource. What changes when it is renewed or issued anew: ask each time.

    `prover` is there if it is bound to a key. `certificate` is the SHA-256, in base64url, of the certificate that it is
    bound to, if it is (RFC 8705 section 3.1). `ended` says why it will not be renewed any more, once that is so.
    """

    lease_id: str
    resource: str
    token: Secret
    expires_at: datetime
    prover: Prover | None = None
    certificate: str = ""
    ended: Refusal | None = None

    def headers(self, method: str, url: str, nonce: str = "") -> dict[str, str]:
        """Return the headers for one request: the token, and a fresh proof if bound to a key (RFC 9449 section 7).

        `nonce` is what the server wants to see in proofs, if it has said so. The headers are secret.
        """
        token = self.token.reveal()
        if self.prover is None:
            return {"authorization": f"Bearer {token}"}
        proof = self.prover.prove(method, url, token=token, nonce=nonce)
        return {"authorization": f"DPoP {token}", "dpop": proof}

    def life(self, at: datetime) -> float:
        """Report how many seconds the token lives that has come just now, at `at` by our clock.

        By the token's own times, which the broker's clock has measured: ours may be wrong.
        """
        payload = self.token.reveal().partition(".")[2].partition(".")[0]
        try:
            claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
            return float(claims["exp"] - claims["iat"])
        except (binascii.Error, ValueError, KeyError, TypeError):
            return (self.expires_at - at) / timedelta(seconds=1)
