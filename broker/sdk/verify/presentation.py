"""How a caller presents a credential, held against what it is bound to (RFC 7800, RFC 8705, RFC 9449)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from broker.credential import dpop
from broker.credential.claims import Claims
from broker.credential.replays import Nonces, Replays
from broker.model.errors import Hints, Reason, Refusal
from broker.model.lease import Binding


@dataclass(frozen=True, slots=True, kw_only=True)
class Presentation:
    """What a call shows of its caller beside the token. What it does not show stays empty.

    `spiffe_id` and `certificate` (its SHA-256 in base64url) are those of the TLS peer. `proof` is a DPoP proof, for the
    request with this method and URL.
    """

    spiffe_id: str = ""
    certificate: str = ""
    proof: str = ""
    method: str = ""
    url: str = ""


TOKEN_ALONE = Presentation()
"""That of a caller who shows nothing but the token, as its bearer (RFC 6750)."""


class SenderConstraint:
    """Checks that whoever presents a token is its holder: that it is *sender-constrained*, as RFC 9449 calls it.

    Remembers which proofs were used. With `nonces`, a proof must hold one of them.
    """

    def __init__(self, nonces: Nonces | None = None) -> None:
        self._nonces = nonces
        self._replays = Replays()

    def __call__(self, token: str, claims: Claims, presentation: Presentation, at: datetime) -> None:
        """Check a presentation of a token with these claims.

        Raises:
            Refusal: HOLDER_MISMATCH, PROOF_INVALID, PROOF_NONCE_REQUIRED.
        """
        match claims.binding:
            case Binding.IDENTITY:
                if presentation.spiffe_id != claims.subject:
                    raise _mismatch("the holder's TLS identity", "each workload must ask for a credential of its own")
            case Binding.CERTIFICATE:
                if presentation.certificate != claims.confirmation:
                    raise _mismatch("the certificate it was issued to", "ask anew after a certificate was rotated")
            case Binding.DPOP:
                self._check_proof(token, claims, presentation, at)
            case Binding.BEARER:
                pass

    def _check_proof(self, token: str, claims: Claims, presentation: Presentation, at: datetime) -> None:
        if not presentation.proof:
            dpop.refuse("there is none, and the credential is bound to a key")
        request = dpop.ProvenRequest(method=presentation.method, url=presentation.url, token=token)
        proof = dpop.verify(presentation.proof, request, at)
        if proof.thumbprint != claims.confirmation:
            raise _mismatch("the key it was issued to", "each holder must ask for a credential of its own")
        if self._nonces is not None:
            self._nonces.check(proof, at)
        self._replays.use(proof, at)


def _mismatch(missing: str, remedy: str) -> Refusal:
    return Refusal(
        Reason.HOLDER_MISMATCH,
        "the credential is in other hands than its holder's",
        Hints(missing=missing, next=remedy),
    )
