"""The keys of those whose JWTs we take: JSON Web Key Sets (RFC 7517) of strong public keys for signatures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey

from broker.model import strict_json

_LARGEST = 256 * 1024
_SHORTEST_RSA = 2_048
_BITS_OF_BASE64 = 6  # a character
_CURVES = frozenset({("EC", "P-256"), ("EC", "P-384"), ("EC", "P-521"), ("OKP", "Ed25519")})
_SECRET: Mapping[object, frozenset[str]] = MappingProxyType(
    {"RSA": frozenset({"d", "p", "q"}), "EC": frozenset({"d"}), "OKP": frozenset({"d"}), "oct": frozenset({"k"})}
)
"""Members that are secrets, by `kty` (RFC 7518 section 6, RFC 8037). Other kinds may call something public so."""
_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_BY_CURVE: Mapping[str, str] = MappingProxyType(
    {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"},
)
ALGORITHMS = frozenset({*_RSA, *_BY_CURVE.values(), "EdDSA", "Ed25519"})
"""Every algorithm that a JWT may be signed with; which of them, the issuer's settings say. No `none`, no HMAC."""


@dataclass(frozen=True, slots=True)
class JwtKey:
    """A public key, and the algorithms it may verify."""

    kid: str
    algorithms: frozenset[str]
    _key: RSAKey | ECKey | OKPKey

    def verify(self, token: str, algorithm: str) -> bool:
        """Check the signature of a compact JWS, by this algorithm and no other."""
        if algorithm not in self.algorithms:
            return False
        registry = jws.JWSRegistry(algorithms=[algorithm])
        try:
            jws.deserialize_compact(token, self._key, registry=registry)
        except JoseError:
            return False
        return True

    def thumbprint(self) -> str:
        """Return what tells this key from all others (RFC 7638)."""
        return self._key.thumbprint()


@dataclass(frozen=True, slots=True)
class JsonWebKeySet:
    """Keys, among which a token's `kid` chooses."""

    keys: Sequence[JwtKey] = ()

    def find(self, kid: str | None) -> Sequence[JwtKey]:
        """Find the keys of an id; without an id, all of them."""
        return [key for key in self.keys if kid is None or key.kid == kid]

    def knows(self, kid: str | None) -> bool:
        """Report whether a key of this id is here; without an id, whether all keys have one, so that none is meant."""
        return all(key.kid for key in self.keys) if kid is None else bool(self.find(kid))


def parse_jwks(data: bytes, use: str = "sig") -> JsonWebKeySet:
    """Parse a key set, and take what is for signatures; `use` is what a key must say of itself if it says anything.

    Keys for other ends, weak and malformed ones and those of unknown kinds are passed over, as RFC 7517 section 5 asks.
    A member that is null is not there.

    Raises:
        ValueError: it is larger than 256 KiB, no key set, or holds a private or symmetric key.
    """
    if len(data) > _LARGEST:
        raise ValueError(f"a key set is at most {_LARGEST // 1024} KiB")
    document = strict_json.parse(data, fractions=True)
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("it is not a JSON Web Key Set")
    present = [{name: value for name, value in entry.items() if value is not None} for entry in entries]
    if any(_is_secret(entry) for entry in present):
        raise ValueError("it holds a private or symmetric key")
    parsed = [_key(entry) for entry in present if entry.get("use", use) == use]
    return JsonWebKeySet(tuple(key for key in parsed if key is not None))


def _is_secret(entry: Mapping[str, Any]) -> bool:
    kind = entry.get("kty")
    return isinstance(kind, str) and bool(_SECRET.get(kind, frozenset()) & entry.keys())


def _is_of_our_kinds(entry: Mapping[str, Any]) -> bool:
    kind, curve = entry.get("kty"), entry.get("crv")
    if kind == "RSA":
        return len(str(entry.get("n"))) * _BITS_OF_BASE64 >= _SHORTEST_RSA
    return isinstance(kind, str) and isinstance(curve, str) and (kind, curve) in _CURVES


def _key(entry: Mapping[str, Any]) -> JwtKey | None:
    kid, operations = entry.get("kid", ""), entry.get("key_ops", ["verify"])
    if not isinstance(kid, str) or not isinstance(operations, list) or "verify" not in operations:
        return None
    if not _is_of_our_kinds(entry):
        return None
    members = {name: entry[name] for name in ("kty", "n", "e", "crv", "x", "y") if name in entry}
    try:
        key = JWKRegistry.import_key(members)
        algorithms = _algorithms(key.public_key)
    except (JoseError, ValueError, TypeError):
        return None
    if "alg" in entry:
        algorithms &= {entry["alg"]} if isinstance(entry["alg"], str) else frozenset()
    if not algorithms or not isinstance(key, (RSAKey, ECKey, OKPKey)):
        return None
    return JwtKey(kid, algorithms, key)


def _algorithms(key: object) -> frozenset[str]:
    """Return what a key can verify; nothing, if it is weak or for something else."""
    if isinstance(key, rsa.RSAPublicKey):
        return _RSA if key.key_size >= _SHORTEST_RSA else frozenset()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return frozenset({_BY_CURVE[key.curve.name]} if key.curve.name in _BY_CURVE else ())
    return frozenset({"EdDSA", "Ed25519"} if isinstance(key, ed25519.Ed25519PublicKey) else ())
