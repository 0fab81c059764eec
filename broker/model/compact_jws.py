"""The compact form of a JWS (RFC 7515 section 3.1), in its one spelling: strict base64url, strict JSON."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any

from broker.model import strict_json

LONGEST = 8 * 1024
_dumps = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")


def split(token: str, longest: int = LONGEST) -> tuple[str, str, str]:
    """Split a token of at most so many characters into the segments of header, payload and signature.

    Raises:
        ValueError: it is no compact JWS.
    """
    parts = _COMPACT.fullmatch(token) if len(token) <= longest else None
    if parts is None:
        raise ValueError(f"it is not a compact JWS of at most {longest // 1024} KiB")
    return parts[1], parts[2], parts[3]


def members(segment: str, *, fractions: bool = False) -> dict[str, Any]:
    """Parse a segment that holds a JSON object, each member once; numbers are whole unless `fractions` are taken.

    Raises:
        ValueError: it is anything else.
    """
    data = unbase64url(segment)
    try:
        value = strict_json.parse(data, fractions=fractions)
    except ValueError as error:
        raise ValueError(f"it is not strict JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004 (a parse error, whatever the type)
    return value


def segment(value: dict[str, Any]) -> str:
    """Write a JSON object as a segment."""
    return base64url(_dumps(value).encode())


def base64url(data: bytes) -> str:
    """Encode without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unbase64url(text: str) -> bytes:
    """Undo `base64url`.

    Raises:
        ValueError: it is not base64url, or not in its one canonical form.
    """
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise ValueError("it is not base64url") from error
    if base64url(data) != text:
        raise ValueError("it is not base64url in its one canonical form")
    return data
