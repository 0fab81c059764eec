"""What clients may know beforehand: the authorization server's metadata (RFC 8414, OpenID Connect Discovery 1.0)."""

from __future__ import annotations

from urllib.parse import urlsplit

from broker.credential import dpop, jose
from broker.identity.jwks import ALGORITHMS
from broker.web.grant_types import GRANT_TYPES

OAUTH, OPENID = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"
JWKS, TOKEN, INTROSPECT, REVOKE, AUTHORIZE = "/jwks", "/token", "/introspect", "/revoke", "/authorize"


def metadata_paths(issuer: str) -> list[str]:
    """Report where an issuer's metadata is: between its host and its path (RFC 8414 section 3.1).

    Also under the name that many clients ask for first, there or behind the path (Discovery section 4, RFC 8414
    section 5).
    """
    path = urlsplit(issuer).path
    return list(dict.fromkeys([OAUTH + path, OPENID + path, path + OPENID]))


def metadata(issuer: str) -> dict[str, object]:
    """Return the metadata of an issuer.

    Clients that know of people alone ask for an authorization endpoint with `code` and PKCE, even if they use neither:
    there is one that always refuses. Libraries for OpenID Connect want to be told how subjects are named, and by which
    algorithm an ID token would be signed, although none ever is.
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
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [jose.ALGORITHM],
        "code_challenge_methods_supported": ["S256"],
        "authorization_details_types_supported": ["tool_call"],
        "dpop_signing_alg_values_supported": [dpop.ALGORITHM],
        **proofs,
        **algorithms,
    }
