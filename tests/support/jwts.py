"""Who vouches by JWTs: an issuer and trust domains, tokens of theirs, and what takes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from broker.identity.directory import Directory, IdentityRule
from broker.identity.issuers import CurrentKeys, Issuer
from broker.identity.jwks import parse_jwks
from broker.identity.jwt import JwtAuthenticator
from broker.identity.trust_bundles import TrustBundles
from broker.model.errors import Reason, Refusal
from broker.model.principal import Role
from tests.support.issuer import Key, compact, jwk

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
AUDIENCE = "https://broker.example"
CI = Issuer(name="ci", url="https://ci.example", audience=AUDIENCE)
RSA, EC, SVID, OTHER = (
    rsa.generate_private_key(65537, 2048),
    ec.generate_private_key(ec.SECP256R1()),
    ec.generate_private_key(ec.SECP256R1()),
    ec.generate_private_key(ec.SECP256R1()),
)
CLAIMS = {"iss": CI.url, "sub": "job:7", "aud": AUDIENCE, "iat": SECONDS, "exp": SECONDS + 300, "jti": "1"}
RESEARCHER = "spiffe://example.org/agent/researcher"
SVID_CLAIMS = {"sub": RESEARCHER, "aud": [AUDIENCE], "exp": SECONDS + 300}
RULES = (
    IdentityRule("oidc:ci:*", "acme", frozenset({Role.AGENTS})),
    IdentityRule("spiffe://example.org/*", "acme", frozenset({Role.AGENTS})),
    IdentityRule("spiffe://other.example/*", "other", frozenset({Role.AGENTS})),
)


def key_set(*pairs: tuple[Key, str], use: str = "sig") -> Any:
    return parse_jwks(json.dumps({"keys": [jwk(key, kid, use=use) for key, kid in pairs]}).encode(), use)


BUNDLES = TrustBundles(
    1,
    {},
    {
        "example.org": key_set((SVID, "svid"), use="jwt-svid"),
        "other.example": key_set((OTHER, "other"), use="jwt-svid"),
    },
)
KEYS = CurrentKeys(1, key_set((RSA, "r1"), (EC, "e1")))


def authenticator(
    issuer: Issuer = CI, keys: Callable[[], CurrentKeys] = lambda: KEYS, denied: frozenset[str] = frozenset()
) -> JwtAuthenticator:
    directory = Directory(RULES, denied)
    return JwtAuthenticator({issuer.url: issuer}, lambda _issuer: keys(), lambda: BUNDLES, AUDIENCE, directory)


def workload(header: dict[str, Any] | None = None, key: Key = RSA, **changes: Any) -> str:
    """A good token of the issuer, or one with changes; what is None is left out."""
    plain = {"alg": "RS256", "kid": "r1", "typ": "JWT"} | (header or {})
    claims = {name: value for name, value in (CLAIMS | changes).items() if value is not None}
    return compact(key, {name: value for name, value in plain.items() if value is not None}, claims)


def svid(header: dict[str, Any] | None = None, key: Key = SVID, **changes: Any) -> str:
    plain = {"alg": "ES256", "kid": "svid"} | (header or {})
    claims = {name: value for name, value in (SVID_CLAIMS | changes).items() if value is not None}
    return compact(key, {name: value for name, value in plain.items() if value is not None}, claims)


def refused(token: str, reason: Reason = Reason.IDENTITY_INVALID, told: str = "", at: datetime = NOW) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        authenticator().authenticate(token, at)
    assert refusal.value.reason is reason, refusal.value
    assert told in str(refusal.value)
    assert len(token) < 20 or token not in str(refusal.value)
    return refusal.value
