"""Proofs that a client has the key that its credentials are bound to (DPoP, RFC 9449)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from broker.credential import dpop
from broker.credential.keys import EcSigner
from broker.model.clock import Clock, Ids
from broker.model.errors import Hints, Reason, Refusal

_IN_PATHS = "/:@!$&'()*+,;=%"  # RFC 3986 section 3.3, and what is encoded already
ISSUER_VARIABLE = "CREDBROKER_ISSUER"


@dataclass(frozen=True, slots=True)
class Prover:
    """Makes proofs with a holder's key. Its representation shows the key's id alone."""

    key: EcSigner
    clock: Clock
    ids: Ids

    def prove(self, method: str, url: str, *, token: str = "", nonce: str = "") -> str:
        """Make a proof for one request; for one with this token, if it is not empty."""
        parts = urlsplit(url)
        path = quote(parts.path, safe=_IN_PATHS)  # as HTTP clients send it
        plain = parts._replace(path=path, query="", fragment="").geturl()
        request = dpop.ProvenRequest(method=method, url=plain, token=token)
        return dpop.make(self.key, request, jti=self.ids(), at=self.clock(), nonce=nonce)


def issuer_of(issuer: str | None) -> str:
    """Return the broker's issuer URL, for which the proofs are that go to itself; from CREDBROKER_ISSUER by default.

    Raises:
        Refusal: INVALID_ARGUMENT, if it is set nowhere.
    """
    issuer = issuer or os.environ.get(ISSUER_VARIABLE)
    if not issuer:
        raise Refusal(
            Reason.INVALID_ARGUMENT,
            "the broker's issuer URL is not known, and proofs of a holder's key are made for it",
            Hints(missing="issuer", next=f"pass `issuer`, as in the broker's configuration, or set {ISSUER_VARIABLE}"),
        )
    return issuer
