"""TLS of the gRPC listeners: our SVID and the roots of clients, both taken anew when their source changes."""

from __future__ import annotations

import grpc

from broker.trust.source import SvidMaterial, SvidSource


def server_credentials(source: SvidSource, *, mutual: bool) -> grpc.ServerCredentials:
    """Make credentials that follow their source: each new connection gets what is there then.

    `mutual` TLS takes clients of any of our trust domains; `identity.x509` then verifies each with the roots of its
    own. Without it no client is asked for a certificate: gRPC for Python cannot make them optional.
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
        require_client_authentication=mutual,
    )


def _configuration(material: SvidMaterial) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(material.private_key_pem, material.cert_chain_pem)], material.trust_bundles.all_roots_pem()
    )
