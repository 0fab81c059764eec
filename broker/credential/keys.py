"""The keys of tokens: what signs, and what verifies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from broker.model.compact_jws import base64url, unbase64url

_COORDINATE_SIZE = 32
_ECDSA = ec.ECDSA(hashes.SHA256())


class Signer(Protocol):
    """Something that signs tokens with a P-256 key: a key in memory, or one that never leaves a KMS."""

    @property
    def kid(self) -> str:
        """Return the key's id: its RFC 7638 thumbprint."""

    def sign(self, data: bytes) -> bytes:
        """Sign with ES256; the signature is r || s, 64 bytes (RFC 7518 section 3.4)."""

    def public_key(self) -> PublicKey:
        """Return the public half."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The public half of a token key."""

    key: ec.EllipticCurvePublicKey

    @classmethod
    def from_jwk(cls, jwk: Mapping[str, Any]) -> PublicKey:
        """Parse a JWK (RFC 7517), strictly.

        Raises:
            ValueError: it is no public P-256 key for ES256 signatures.
        """
        if jwk.get("kty") != "EC" or jwk.get("crv") != "P-256" or jwk.get("alg") != "ES256" or jwk.get("use") != "sig":
            msg = "a key is not a P-256 key for ES256 signatures"
            raise ValueError(msg)
        if "d" in jwk:
            msg = "a key set holds a private key"
            raise ValueError(msg)
        x, y = (int.from_bytes(_coordinate(jwk.get(name))) for name in ("x", "y"))
        return cls(ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key())

    def to_jwk(self) -> dict[str, str]:
        """Return the JWK."""
        members = self._members()
        return {**members, "alg": "ES256", "use": "sig", "kid": _thumbprint(members)}

    @property
    def kid(self) -> str:
        """Return the key's id: its RFC 7638 thumbprint."""
        return _thumbprint(self._members())

    def verify(self, data: bytes, signature: bytes) -> bool:
        """Check an r || s signature."""
        r = int.from_bytes(signature[:_COORDINATE_SIZE])
        s = int.from_bytes(signature[_COORDINATE_SIZE:])
        try:
            self.key.verify(encode_dss_signature(r, s), data, _ECDSA)
        except InvalidSignature:
            return False
        return True

    def _members(self) -> dict[str, str]:
        numbers = self.key.public_numbers()
        x, y = (base64url(number.to_bytes(_COORDINATE_SIZE)) for number in (numbers.x, numbers.y))
        return {"crv": "P-256", "kty": "EC", "x": x, "y": y}


@dataclass(frozen=True, slots=True)
class EcSigner:
    """A private key in memory. Nothing of it can be read from its representation."""

    _key: ec.EllipticCurvePrivateKey = field(repr=False)
    kid: str

    @classmethod
    def of(cls, key: ec.EllipticCurvePrivateKey) -> EcSigner:
        """Make a signer of a P-256 key."""
        return cls(key, PublicKey(key.public_key()).kid)

    @classmethod
    def generate(cls) -> EcSigner:
        """Make a signer with a new key."""
        return cls.of(ec.generate_private_key(ec.SECP256R1()))

    def sign(self, data: bytes) -> bytes:
        """Sign with ES256; the signature is r || s."""
        r, s = decode_dss_signature(self._key.sign(data, _ECDSA))
        return r.to_bytes(_COORDINATE_SIZE) + s.to_bytes(_COORDINATE_SIZE)

    def public_key(self) -> PublicKey:
        """Return the public half."""
        return PublicKey(self._key.public_key())


@dataclass(frozen=True, slots=True)
class KeySet:
    """Public keys by key id."""

    _keys: Mapping[str, PublicKey]

    @classmethod
    def of(cls, keys: Iterable[Signer | PublicKey]) -> KeySet:
        """Make a set of signers' public halves, or public keys."""
        public = [key if isinstance(key, PublicKey) else key.public_key() for key in keys]
        return cls({key.kid: key for key in public})

    @classmethod
    def from_jwks(cls, text: str) -> KeySet:
        """Parse a JSON Web Key Set.

        Raises:
            ValueError: it is malformed, or holds a key that is not a public ES256 key under its own thumbprint.
        """
        document = json.loads(text)
        if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
            msg = "it is not a JSON Web Key Set"
            raise ValueError(msg)  # noqa: TRY004 (a parse error, whatever the type)
        keys = [PublicKey.from_jwk(jwk) for jwk in document["keys"]]
        if any(key.kid != jwk.get("kid") for key, jwk in zip(keys, document["keys"], strict=True)):
            msg = "a key's `kid` is not its thumbprint"
            raise ValueError(msg)
        return cls.of(keys)

    def to_jwks(self) -> str:
        """Return the JSON Web Key Set."""
        return json.dumps({"keys": [key.to_jwk() for key in self._keys.values()]})

    def find(self, kid: str) -> PublicKey | None:
        """Find a key."""
        return self._keys.get(kid)


def _thumbprint(members: Mapping[str, str]) -> str:
    """Hash the required members in their canonical form (RFC 7638 section 3)."""
    canonical = json.dumps(members, separators=(",", ":"), sort_keys=True)
    return base64url(hashlib.sha256(canonical.encode()).digest())


def _coordinate(text: object) -> bytes:
    data = unbase64url(text) if isinstance(text, str) else b""
    if len(data) != _COORDINATE_SIZE:
        msg = "a key's coordinate is not 32 bytes of base64url"
        raise ValueError(msg)
    return data
