"""What a call presents of its caller, whichever door it came through: parsed here once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from broker.credential import dpop
from broker.identity.x509 import PeerEvidence
from broker.model.errors import Hints, Reason, Refusal

_SCHEME = "bearer "


@dataclass(frozen=True, slots=True)
class PresentedProof:
    """A proof of possession (RFC 9449) as it came with a call, which is for this method and URL."""

    text: str
    method: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentedIdentity:
    """What is to prove who calls: the certificates of the connection, or else a token; and a proof, if one came.

    `client_id` is who the caller says it is, by its id or an issuer's name for it; empty, if it does not say. `address`
    tells where the connection comes from.
    """

    peer: PeerEvidence | None = None
    token: str = field(default="", repr=False)
    proof: PresentedProof | None = None
    client_id: str = ""
    address: Callable[[], str] = str


def bearer_token(authorization: Sequence[str]) -> str:
    """Parse the values of `authorization`, a header or metadata (RFC 6750); empty, if there are none.

    Raises:
        Refusal: IDENTITY_INVALID, if there are several, or it is of another kind.
    """
    if not authorization:
        return ""
    if len(authorization) > 1 or authorization[0][: len(_SCHEME)].lower() != _SCHEME:
        raise Refusal(
            Reason.IDENTITY_INVALID,
            "`authorization` is not exactly one bearer token",
            Hints(next="send `authorization: Bearer TOKEN`, once"),
        )
    return authorization[0][len(_SCHEME) :].strip()


def proof_of_key(proofs: Sequence[str], url: str) -> PresentedProof | None:
    """Parse the values of `dpop`, a header or metadata, that came with a POST to a URL of ours.

    Raises:
        Refusal: PROOF_INVALID, if there are several.
    """
    if len(proofs) > 1:
        dpop.refuse("there is more than one")
    return PresentedProof(proofs[0], "POST", url) if proofs else None
