"""Proofs of possession (DPoP, RFC 9449): that who sends a request has the key that its token is bound to, now.

ES256 alone. A proof is for one method and URL, for one token if it goes with one, and for a minute; who takes it keeps
in mind that it was used (`broker.credential.replays`).
"""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NoReturn
from urllib.parse import urlsplit

from broker.credential.keys import EcSigner, PublicKey
from broker.model import compact_jws, numeric_date
from broker.model.compact_jws import base64url
from broker.model.errors import Hints, Reason, Refusal

ALGORITHM = "ES256"
TYPE = "dpop+jwt"
GOOD_FOR = timedelta(seconds=60)
LEEWAY = timedelta(seconds=5)  # for clients whose clock is ahead
_SIGNATURE_SIZE = 64
_HEADER_NAMES = frozenset({"alg", "typ", "jwk"})
_REQUIRED = frozenset({"jti", "htm", "htu", "iat"})
_LONGEST_JTI = 256
_ENCODED = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset(string.ascii_letters + string.digits + "-._~")  # RFC 3986 section 2.3
_DOTS = frozenset({".", ".."})
_PORTS: Mapping[str, int] = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9._:\[\]-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenRequest:
    """The request that a proof must be for. `token` goes with it, if it is not empty."""

    method: str
    url: str
    token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A proof whose signature is right, for the request it came with. `thumbprint` is that of its key (RFC 7638)."""

    thumbprint: str
    jti: str
    issued_at: datetime
    nonce: str


def verify(text: str, request: ProvenRequest, at: datetime) -> Proof:
    """Check a proof (RFC 9449 section 4.3). Whether it was used before, and its nonce, are for the caller to check.

    Raises:
        Refusal: PROOF_INVALID.
    """
    try:
        header_segment, payload_segment, signature = compact_jws.split(text)
        key = _key(compact_jws.members(header_segment))
        signed = compact_jws.unbase64url(signature)
        payload = compact_jws.members(payload_segment, fractions=True)
    except ValueError as error:
        refuse(str(error))
    if len(signed) != _SIGNATURE_SIZE or not key.verify(f"{header_segment}.{payload_segment}".encode(), signed):
        refuse("its signature is wrong")
    return _check(payload, key.kid, request, at)


def make(signer: EcSigner, request: ProvenRequest, *, jti: str, at: datetime, nonce: str = "") -> str:
    """Make a proof for one request."""
    payload: dict[str, object] = {
        "jti": jti,
        "htm": request.method,
        "htu": request.url,
        "iat": int(at.timestamp()),
    }
    if request.token:
        payload["ath"] = _hash(request.token)
    if nonce:
        payload["nonce"] = nonce
    jwk = {name: value for name, value in signer.public_key().to_jwk().items() if name in ("kty", "crv", "x", "y")}
    signed = f"{compact_jws.segment({'alg': ALGORITHM, 'typ': TYPE, 'jwk': jwk})}.{compact_jws.segment(payload)}"
    return f"{signed}.{base64url(signer.sign(signed.encode()))}"


def refuse(what: str) -> NoReturn:
    """Refuse a proof.

    Raises:
        Refusal: PROOF_INVALID.
    """
    raise Refusal(
        Reason.PROOF_INVALID,
        f"the DPoP proof is not acceptable: {what}",
        Hints(missing="DPoP", next="make a fresh proof for each request (RFC 9449)"),
    )


def _key(header: Mapping[str, Any]) -> PublicKey:
    if header.keys() != _HEADER_NAMES or header["alg"] != ALGORITHM or header["typ"] != TYPE:
        raise ValueError(f"its header is not exactly `alg` {ALGORITHM}, `typ` {TYPE} and `jwk`")
    jwk = header["jwk"]
    if not isinstance(jwk, dict):
        raise ValueError("its `jwk` is no key")  # noqa: TRY004 (a parse error, whatever the type)
    return PublicKey.from_jwk({**jwk, "alg": jwk.get("alg", ALGORITHM), "use": jwk.get("use", "sig")})


def _check(payload: Mapping[str, Any], thumbprint: str, request: ProvenRequest, at: datetime) -> Proof:
    if missing := sorted(_REQUIRED - payload.keys()):
        refuse(f"it has no `{missing[0]}`")
    if payload["htm"] != request.method:
        refuse(f"it is not for the method {request.method} (`htm`)")
    if not _same(payload["htu"], request.url):
        refuse(f"it is not for {request.url} (`htu`)")
    if request.token and payload.get("ath") != _hash(request.token):
        refuse("it is not for the token that it came with (`ath`)")
    jti, nonce = payload["jti"], payload.get("nonce", "")
    if not isinstance(jti, str) or not 0 < len(jti) <= _LONGEST_JTI:
        refuse(f"its `jti` is not a text of at most {_LONGEST_JTI} characters")
    if not isinstance(nonce, str):
        refuse("its `nonce` is not a text")
    return Proof(thumbprint=thumbprint, jti=jti, issued_at=_made_now(payload["iat"], at), nonce=nonce)


def _made_now(issued_at: object, at: datetime) -> datetime:
    try:
        instant, no_later = numeric_date.at_latest(issued_at), numeric_date.at_earliest(issued_at)
    except ValueError as error:
        refuse(f"its `iat` {error}")
    if instant < at - GOOD_FOR or no_later > at + LEEWAY:
        refuse("it was not made now (`iat`); compare the clocks")
    return instant


def _same(claimed: object, url: str) -> bool:
    """Compare URLs without query and fragment, in their normal form (RFC 9449 section 4.3, check 9)."""
    return isinstance(claimed, str) and _normal(claimed) == _normal(url) is not None


def _normal(url: str) -> tuple[str, str, int, str] | None:
    """Return scheme, host, port and path in their normal form (RFC 3986 sections 6.2.2, 6.2.3), or None."""
    if not url.isascii() or not url.isprintable() or set(url) & set("\\ "):
        return None
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS or not _HOST.fullmatch(host) or "@" in parts.netloc:
        return None
    return parts.scheme, host, _PORTS[parts.scheme] if port is None else port, _normal_path(parts.path)


def _normal_path(path: str) -> str:
    """Decode what needs no encoding, write the rest in capitals, walk `.` and `..` (sections 6.2.2.1 to 6.2.2.3)."""
    path = _ENCODED.sub(_normal_octet, path)
    if "/." not in path:
        return path or "/"
    walked: list[str] = []
    *segments, last = path.split("/")[1:]
    for segment in segments:
        _walk(walked, segment)
    _walk(walked, last)
    return "/".join(["", *walked, *([""] if last in _DOTS else [])])


def _walk(walked: list[str], segment: str) -> None:
    if segment == "..":
        del walked[-1:]
    elif segment != ".":
        walked.append(segment)


def _normal_octet(encoded: re.Match[str]) -> str:
    letter = chr(int(encoded[1], 16))
    return letter if letter in _UNRESERVED else encoded[0].upper()


def _hash(token: str) -> str:
    return base64url(hashlib.sha256(token.encode()).digest())
