"""Tokens as compact JWS (RFC 7515), strictly: one algorithm, one type, one form. Nothing here looks at the time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn

from broker.credential.claims import Claims, from_payload, to_payload
from broker.credential.keys import KeySet, Signer
from broker.model import compact_jws
from broker.model.compact_jws import base64url
from broker.model.errors import Hints, Reason, Refusal

ALGORITHM = "ES256"
TYPE = "at+jwt"  # RFC 9068 section 2.1
LONGEST_ISSUED = 5_632
"""How long a token of ours may be, in bytes.

It travels in a header beside others: gRPC takes 8 KiB of metadata in all, of which a proof of possession may need two,
and many proxies as much for a single header. Verifiers take longer ones (`compact_jws`): what is derived may grow.
"""
_SIGNATURE_SIZE = 64
_LENGTH_OF_SIGNATURE = 86  # in base64url
_HEADER_NAMES = frozenset({"alg", "typ", "kid"})


@dataclass(frozen=True, slots=True)
class Unsigned:
    """A token but for its signature, which makes it a secret."""

    text: str
    _signer: Signer

    @property
    def size(self) -> int:
        """Report how long the token will be."""
        return len(self.text) + 1 + _LENGTH_OF_SIGNATURE

    def sign(self) -> str:
        """Return the token."""
        return f"{self.text}.{base64url(self._signer.sign(self.text.encode()))}"


def unsigned(claims: Claims, signer: Signer) -> Unsigned:
    """Write claims down, to be signed."""
    return Unsigned(f"{_header(signer.kid)}.{compact_jws.segment(to_payload(claims))}", signer)


def encode(claims: Claims, signer: Signer) -> str:
    """Sign claims into a token. It is a secret from here on."""
    return unsigned(claims, signer).sign()


def decode(token: str, keys: KeySet, longest: int = compact_jws.LONGEST) -> Claims:
    """Check a token's form and signature, and return its claims. Whether it is in time is for the caller to check.

    Raises:
        Refusal: TOKEN_INVALID, which never repeats the token.
    """
    try:
        return _decode(token, keys, longest)
    except ValueError as error:
        _refuse(str(error))


def names_key_of(token: str, keys: KeySet) -> bool:
    """Report whether a text begins as tokens do that are signed with one of these keys, however it goes on."""
    try:
        return keys.find(_kid(token.partition(".")[0])) is not None
    except (ValueError, Refusal):
        return False


def _decode(token: str, keys: KeySet, longest: int) -> Claims:
    header, payload, signature = compact_jws.split(token, longest)
    key = keys.find(_kid(header))
    if key is None:
        raise UnknownKey
    signed = compact_jws.unbase64url(signature)
    if len(signed) != _SIGNATURE_SIZE or not key.verify(f"{header}.{payload}".encode(), signed):
        _refuse("its signature is wrong")
    return from_payload(compact_jws.members(payload))


class UnknownKey(Refusal):
    """The token names a key that is not in the key set: it is foreign, or the set is out of date."""

    def __init__(self) -> None:
        super().__init__(
            Reason.TOKEN_INVALID,
            "the token is not acceptable: it is signed with an unknown key",
            Hints(next="ask the broker that this server trusts for a credential"),
        )


@lru_cache(maxsize=8)
def _header(kid: str) -> str:
    return compact_jws.segment({"alg": ALGORITHM, "typ": TYPE, "kid": kid})


@lru_cache(maxsize=8)
def _kid(header: str) -> str:
    """Read a header, of which there are as many as keys."""
    members = compact_jws.members(header)
    if members.keys() != _HEADER_NAMES or members["alg"] != ALGORITHM or members["typ"] != TYPE:
        _refuse(f"its header is not exactly `alg` {ALGORITHM}, `typ` {TYPE} and `kid`")
    if not isinstance(members["kid"], str):
        raise UnknownKey
    return members["kid"]


def _refuse(what: str) -> NoReturn:
    raise Refusal(
        Reason.TOKEN_INVALID, f"the token is not acceptable: {what}", Hints(next="ask the broker for a new credential")
    )
