"""What a gRPC call presents of its caller: certificates of the connection, or a token among the metadata."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import grpc

from broker.access.presented import PresentedIdentity, bearer_token, proof_of_key
from broker.identity.x509 import PeerEvidence

Context = grpc.aio.ServicerContext[Any, Any]

_AUTHORIZATION, _PROOF = "authorization", "dpop"


def presented(context: Context, url: str) -> PresentedIdentity:
    """Return what a call to a URL of ours presents: its connection's certificate, else a token (JWT-SVID section 5.2).

    Raises:
        Refusal: IDENTITY_INVALID, PROOF_INVALID: it presents several, or something of another kind.
    """
    peer, metadata = peer_evidence(context.auth_context()), context.invocation_metadata() or ()
    proof = proof_of_key(_values(metadata, _PROOF), url)
    if peer.leaf_pem:
        return PresentedIdentity(peer=peer, proof=proof)
    token = bearer_token(_values(metadata, _AUTHORIZATION))
    return PresentedIdentity(token=token, proof=proof, address=partial(_address, context))


def peer_evidence(auth_context: Mapping[str, Iterable[bytes]]) -> PeerEvidence:
    """Return what the connection shows of its peer."""
    return PeerEvidence(
        transport=_first(auth_context, "transport_security_type").decode(),
        tls_version=_first(auth_context, "ssl_tls_version").decode(),
        leaf_pem=_first(auth_context, "x509_pem_cert"),
        chain_pem=_first(auth_context, "x509_pem_cert_chain"),
    )


def _address(context: Context) -> str:
    """Return whence a connection comes, without its port."""
    return str(context.peer()).rpartition(":")[0]


def _first(auth_context: Mapping[str, Iterable[bytes]], name: str) -> bytes:
    return next(iter(auth_context.get(name, ())), b"")


def _values(metadata: Iterable[tuple[str, str | bytes]], name: str) -> list[str]:
    return [str(value) for key, value in metadata if key == name]
