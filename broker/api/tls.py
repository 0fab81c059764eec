"""TLS of the gRPC listener: our SVID, client certificates required, both taken anew when their source changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import grpc

from broker.identity.x509 import PeerEvidence
from broker.trust.source import SvidMaterial, SvidSource


def server_credentials(source: SvidSource) -> grpc.ServerCredentials:
    """Make credentials that follow their source: each new connection gets what is there then.

    TLS takes clients of any of our trust domains; `identity.x509` then verifies each with the roots of its own.
    """
    served = source.material.generation

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal served
        material = source.material
        if material.generation == served:
            return None  # as it was: keeps the context, and so session resumption
        served = material.generation
        return _configuration(material)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(source.material),
        fetch,  # type: ignore[arg-type]  # None is documented, and not in the stubs
        require_client_authentication=True,
    )


def peer_evidence(auth_context: Mapping[str, Iterable[bytes]]) -> PeerEvidence:
    """Take from gRPC what the connection shows of its peer."""
    return PeerEvidence(
        transport=_first(auth_context, "transport_security_type").decode(),
        tls_version=_first(auth_context, "ssl_tls_version").decode(),
        leaf_pem=_first(auth_context, "x509_pem_cert"),
        chain_pem=_first(auth_context, "x509_pem_cert_chain"),
    )


def _first(auth_context: Mapping[str, Iterable[bytes]], name: str) -> bytes:
    return next(iter(auth_context.get(name, ())), b"")


def _configuration(material: SvidMaterial) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(material.private_key_pem, material.cert_chain_pem)], material.bundles.all_roots_pem()
    )
