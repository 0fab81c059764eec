"""What clients may know beforehand: the authorization server's metadata (RFC 8414)."""

from __future__ import annotations

from urllib.parse import urlsplit

from broker.credential import dpop
from broker.identity.jwks import ALGORITHMS
from broker.web.token import GRANT_TYPES

WELL_KNOWN = "/.well-known/oauth-authorization-server"
JWKS, TOKEN, INTROSPECT, REVOKE, AUTHORIZE = "/jwks", "/token", "/introspect", "/revoke", "/authorize"


def metadata_path(issuer: str) -> str:
    """Tell where an issuer's metadata is: between its host and its path (RFC 8414 section 3.1)."""
    return WELL_KNOWN + urlsplit(issuer).path


def metadata(issuer: str) -> dict[str, object]:
    """Give the metadata of an issuer.

    Clients that know of people alone ask for an authorization endpoint and PKCE, even if they use neither: there is one
    that always refuses.
    """
    proofs = {
        f"{endpoint}_endpoint_auth_methods_supported": ["private_key_jwt"] for endpoint in ("token", "introspection")
    }
    algorithms = {
        f"{endpoint}_endpoint_auth_signing_alg_values_supported": sorted(ALGORITHMS)
        for endpoint in ("token", "introspection")
    }
    return {
        "issuer": issuer,
        "authorization_endpoint": issuer + AUTHORIZE,
        "token_endpoint": issuer + TOKEN,
        "jwks_uri": issuer + JWKS,
        "introspection_endpoint": issuer + INTROSPECT,
        "revocation_endpoint": issuer + REVOKE,
        "revocation_endpoint_auth_methods_supported": ["none"],
        "grant_types_supported": list(GRANT_TYPES),
        "response_types_supported": [],
        "code_challenge_methods_supported": ["S256"],
        "authorization_details_types_supported": ["tool_call"],
        "dpop_signing_alg_values_supported": [dpop.ALGORITHM],
        **proofs,
        **algorithms,
    }
