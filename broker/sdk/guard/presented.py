"""The credential that a call presents, whatever protocol carries it: one parser for all guards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from broker.credential import dpop
from broker.model.errors import Hints, Reason, Refusal

_BEARER, _DPOP = "bearer", "dpop"


@dataclass(frozen=True, slots=True)
class Carrier:
    """How a protocol carries a credential, in the words of its refusals: `the request`, `the header` of this name."""

    message: str
    part: str
    field: str


GRPC = Carrier("call", "metadata", "authorization")
HTTP = Carrier("request", "header", "Authorization")


class PresentedCredential(NamedTuple):
    """A token as it came, and the DPoP proof that came with it; empty, if it came as a bearer token."""

    token: str
    proof: str = ""


def presented(carrier: Carrier, values_of: Callable[[str], Sequence[str]]) -> PresentedCredential:
    """Parse what a call says of its credential (RFC 6750 section 2.1, RFC 9449 section 7.1).

    `values_of` returns the values of a header or of metadata, by its name in lower case, as often as it is there.

    Raises:
        Refusal: TOKEN_INVALID, if there is not exactly one token; PROOF_INVALID, if it came as a DPoP token and there
            is not exactly one proof.
    """
    values = values_of("authorization")
    scheme, _, token = (values[0] if len(values) == 1 else "").partition(" ")
    scheme, token = scheme.lower(), token.strip()
    if scheme not in (_BEARER, _DPOP) or not token:
        raise Refusal(
            Reason.TOKEN_INVALID,
            f"the {carrier.message} does not carry exactly one credential",
            Hints(
                missing=carrier.field,
                next=f"send the {carrier.part} `{carrier.field}: Bearer TOKEN`, once",
            ),
        )
    if scheme == _BEARER:
        return PresentedCredential(token)
    proofs = values_of("dpop")
    if len(proofs) != 1:
        dpop.refuse("there is not exactly one")
    return PresentedCredential(token, proofs[0])
