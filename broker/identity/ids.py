"""The ids of principals: SPIFFE IDs, and `oidc:ISSUER:SUBJECT` for those whom a trusted issuer vouches for."""

from __future__ import annotations

import re

from broker.identity.spiffe import parse_spiffe_id

SCHEMES = ("spiffe:", "oidc:")
ISSUER_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_OIDC = re.compile(r"oidc:[a-z0-9][a-z0-9-]{0,31}:[!-)+-~]{1,512}")  # visible ASCII but for `*`, which is for patterns
_OIDC_PATTERN = re.compile(r"oidc:[a-z0-9][a-z0-9-]{0,31}:(?:[!-)+-~]{0,511}[:/])?\*")


def check_id(text: str) -> str:
    """Check that a text is the id of a principal, and give it.

    Raises:
        ValueError: it is none; the message says which part is wrong.
    """
    if not text.startswith("oidc:"):
        return str(parse_spiffe_id(text))
    if not _OIDC.fullmatch(text):
        raise ValueError("such an id is oidc:ISSUER:SUBJECT, in visible ASCII without `*`, the subject at most 512")
    return text


def check_pattern(text: str) -> str:
    """Check that a text is an id, or one of which all goes on behind a `/`, or a `:` of an OIDC subject; give it.

    Raises:
        ValueError: it is neither.
    """
    if text.startswith("oidc:"):
        return text if _OIDC_PATTERN.fullmatch(text) else check_id(text)
    parse_spiffe_id(text.removesuffix("/*"))
    return text


def oidc_id(issuer: str, subject: str) -> str:
    """Make the id of a subject at the issuer that the configuration gives this name.

    Raises:
        ValueError: the subject cannot be part of an id.
    """
    return check_id(f"oidc:{issuer}:{subject}")
