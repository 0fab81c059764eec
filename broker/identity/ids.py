"""The ids of principals: SPIFFE IDs, and `oidc:ISSUER:SUBJECT` for those whom a trusted issuer vouches for.

Subjects are written in visible ASCII. What else an issuer has in them (spaces, letters of other languages, and `*`,
which is for patterns) is percent-encoded as UTF-8, and so is `%` itself: each subject has one spelling, and each
spelling one subject.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote, unquote

from broker.identity.spiffe import parse_spiffe_id

SCHEMES = ("spiffe:", "oidc:")
ISSUER_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_PARTS = re.compile(r"(oidc:[a-z0-9][a-z0-9-]{0,31}:)(.*)", re.DOTALL)
_PATTERN = re.compile(r"(oidc:[a-z0-9][a-z0-9-]{0,31}:)((?:.*[:/])?)\*", re.DOTALL)
_AS_IT_IS = "".join(letter for letter in map(chr, range(0x21, 0x7F)) if letter not in "%*")
_LONGEST, _LONGEST_WRITTEN = 512, 2_000
_FORM = (
    f"such an id is oidc:ISSUER:SUBJECT, the subject 1 to {_LONGEST} characters, in visible ASCII, with `*`, `%` and"
    " what else there is percent-encoded"
)


def check_id(text: str) -> str:
    """Check that a text is the id of a principal, and return it.

    Raises:
        ValueError: it is none; the message says which part is wrong, or how it is written.
    """
    if not text.startswith("oidc:"):
        return str(parse_spiffe_id(text))
    parts = _PARTS.fullmatch(text)
    if not parts:
        raise ValueError(_FORM)
    if (written := parts[1] + _write(_read(parts[2]))) != text:
        raise ValueError(f"{_FORM}; it is written `{written}`")
    return text


def check_pattern(text: str) -> str:
    """Check that a text is an id, or one of which all goes on behind a `/`, or a `:` of an OIDC subject; return it.

    Raises:
        ValueError: it is neither.
    """
    if text.startswith("oidc:"):
        if (parts := _PATTERN.fullmatch(text)) and parts[2]:
            check_id(parts[1] + parts[2])
        return text if parts else check_id(text)
    parse_spiffe_id(text.removesuffix("/*"))
    return text


def oidc_id(issuer: str, subject: str) -> str:
    """Make the id of a subject at the issuer that the configuration gives this name.

    Raises:
        ValueError: the subject cannot be part of an id.
    """
    return check_id(f"oidc:{issuer}:{_write(subject)}")


def subject_of(principal_id: str) -> str:
    """Return what the issuer calls a principal; empty, if it is no OIDC principal."""
    parts = _PARTS.fullmatch(principal_id)
    return _read(parts[2]) if parts else ""


def _write(subject: str) -> str:
    if not 1 <= len(subject) <= _LONGEST or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in subject):
        raise ValueError(f"a subject is 1 to {_LONGEST} characters, none of them a control character")
    written = quote(subject, safe=_AS_IT_IS)
    if len(written) > _LONGEST_WRITTEN:
        raise ValueError(f"a subject is at most {_LONGEST_WRITTEN} characters when percent-encoded")
    return written


def _read(written: str) -> str:
    try:
        return unquote(written, errors="strict")
    except UnicodeDecodeError:
        return written  # what is not UTF-8 was not written here, and is another text when written
