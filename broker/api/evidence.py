"""What a gRPC call shows of its caller: certificates of the connection, or a token among the metadata."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from broker.credential import dpop
from broker.identity.x509 import PeerEvidence
from broker.model.errors import Hints, Reason, Refusal

Metadata = Iterable[tuple[str, str | bytes]]

_AUTHORIZATION, _PROOF = "authorization", "dpop"
_SCHEME = "bearer "


def peer_evidence(auth_context: Mapping[str, Iterable[bytes]]) -> PeerEvidence:
    """Return what the connection shows of its peer."""
    return PeerEvidence(
        transport=_first(auth_context, "transport_security_type").decode(),
        tls_version=_first(auth_context, "ssl_tls_version").decode(),
        leaf_pem=_first(auth_context, "x509_pem_cert"),
        chain_pem=_first(auth_context, "x509_pem_cert_chain"),
    )


def _first(auth_context: Mapping[str, Iterable[bytes]], name: str) -> bytes:
    return next(iter(auth_context.get(name, ())), b"")


def bearer_token(metadata: Metadata | None) -> str:
    """Return the token that proves the caller's identity (JWT-SVID section 5.2); empty, if there is none.

    Raises:
        Refusal: IDENTITY_INVALID, if there are several, or it is of another kind.
    """
    values = _values(metadata, _AUTHORIZATION)
    if not values:
        return ""
    if len(values) > 1 or values[0][: len(_SCHEME)].lower() != _SCHEME:
        raise Refusal(
            Reason.IDENTITY_INVALID,
            "the metadata `authorization` is not exactly one bearer token",
            Hints(next="send the metadata `authorization: Bearer TOKEN`, once"),
        )
    return values[0][len(_SCHEME) :].strip()


def proof(metadata: Metadata | None) -> str:
    """Return the DPoP proof that came with a call; empty, if there is none.

    Raises:
        Refusal: PROOF_INVALID, if there are several.
    """
    values = _values(metadata, _PROOF)
    if len(values) > 1:
        dpop.refuse("there is more than one")
    return values[0] if values else ""


def _values(metadata: Metadata | None, name: str) -> list[str]:
    return [str(value) for found, value in metadata or () if found == name]
