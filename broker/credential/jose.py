"""Tokens as compact JWS (RFC 7515), strictly: one algorithm, one type, one form. Nothing here looks at the time."""

from __future__ import annotations

import base64
import binascii
import json
import re
from functools import lru_cache
from typing import Any, NoReturn

from broker.credential.claims import Claims, from_payload, to_payload
from broker.credential.keys import KeySet, Signer
from broker.model import strict_json
from broker.model.errors import Hints, Reason, Refusal

ALGORITHM = "ES256"
TYPE = "at+jwt"  # RFC 9068 section 2.1
_LONGEST = 8 * 1024
_SIGNATURE_SIZE = 64
_HEADER_NAMES = frozenset({"alg", "typ", "kid"})
_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")

_dumps = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def encode(claims: Claims, signer: Signer) -> str:
    """Sign claims into a token. It is a secret from here on."""
    signed = f"{_header(signer.kid)}.{_segment(to_payload(claims))}"
    return f"{signed}.{_base64url(signer.sign(signed.encode()))}"


def decode(token: str, keys: KeySet) -> Claims:
    """Check a token's form and signature, and give its claims. Whether it is in time is for the caller to check.

    Raises:
        Refusal: TOKEN_INVALID, which never repeats the token.
    """
    parts = _COMPACT.fullmatch(token) if len(token) <= _LONGEST else None
    if parts is None:
        _refuse("it is not a compact JWS of at most 8 KiB")
    key = keys.find(_kid(parts[1]))
    if key is None:
        raise UnknownKey
    signature = _unbase64url(parts[3])
    if len(signature) != _SIGNATURE_SIZE or not key.verify(token[: parts.end(2)].encode(), signature):
        _refuse("its signature is wrong")
    return from_payload(_members(_unbase64url(parts[2])))


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
    return _segment({"alg": ALGORITHM, "typ": TYPE, "kid": kid})


@lru_cache(maxsize=8)
def _kid(header: str) -> str:
    """Read a header, of which there are as many as keys."""
    members = _members(_unbase64url(header))
    if members.keys() != _HEADER_NAMES or members["alg"] != ALGORITHM or members["typ"] != TYPE:
        _refuse(f"its header is not exactly `alg` {ALGORITHM}, `typ` {TYPE} and `kid`")
    if not isinstance(members["kid"], str):
        raise UnknownKey
    return members["kid"]


def _segment(members: dict[str, Any]) -> str:
    return _base64url(_dumps(members).encode())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unbase64url(text: str) -> bytes:
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        _refuse("it is not base64url")
    if _base64url(data) != text:
        _refuse("it is not base64url in its one canonical form")
    return data


def _members(data: bytes) -> dict[str, Any]:
    """Parse a JSON object, strictly."""
    try:
        value = strict_json.parse(data, fractions=False)
    except ValueError:
        _refuse("it is not strict JSON")
    if not isinstance(value, dict):
        _refuse("it is not a JSON object")
    return value


def _refuse(what: str) -> NoReturn:
    raise Refusal(
        Reason.TOKEN_INVALID, f"the token is not acceptable: {what}", Hints(next="ask the broker for a new credential")
    )
