"""SPIFFE IDs, parsed strictly (SPIFFE-ID sections 2.1 to 2.3)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LONGEST = 2_048
_LONGEST_TRUST_DOMAIN = 255
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]+")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """A SPIFFE ID. `path` is empty for the trust domain itself, or starts with a slash."""

    trust_domain: str
    path: str

    def __str__(self) -> str:
        """Return the URI."""
        return f"spiffe://{self.trust_domain}{self.path}"


def parse_spiffe_id(text: str) -> SpiffeId:
    """Parse a SPIFFE ID. There is one spelling of each, so two texts are the same ID if and only if they are equal.

    Raises:
        ValueError: it is none; the message says which part is wrong.
    """
    if not text.startswith("spiffe://"):
        raise ValueError("must be a SPIFFE ID, such as spiffe://example.org/agent/researcher")
    if len(text) > _LONGEST:
        raise ValueError(f"a SPIFFE ID is at most {_LONGEST} bytes")
    trust_domain, slash, rest = text.removeprefix("spiffe://").partition("/")
    if len(trust_domain) > _LONGEST_TRUST_DOMAIN or not _TRUST_DOMAIN.fullmatch(trust_domain):
        raise ValueError(f"a trust domain is 1 to {_LONGEST_TRUST_DOMAIN} characters a-z, 0-9, `.`, `_`, `-`")
    segments = rest.split("/") if slash else []
    if not all(_SEGMENT.fullmatch(segment) and segment not in (".", "..") for segment in segments):
        raise ValueError("a SPIFFE ID's path has segments of A-Z, a-z, 0-9, `.`, `_`, `-`, none empty, `.` or `..`")
    return SpiffeId(trust_domain, slash + rest)
