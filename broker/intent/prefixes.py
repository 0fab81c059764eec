"""Texts that begin with a prefix and stay below it, however a server decodes them and whatever divides their parts."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import unquote

from broker.model.spellings import simple

_LONGEST = 65_536  # so that no call takes long to look at, with any number of constraints
_MOST_LAYERS = 8  # of percent-encoding; nobody writes so many in good faith
_ENCODED_UNIT = re.compile(r"(?:%u|\\u)([0-9A-F]{4})|\\x([0-9A-F]{2})", re.IGNORECASE)  # as IIS and literals have it
# Whatever is none of a name's own characters: slashes of both kinds, what looks like them and is taken for them, what
# begins parameters (`..;/`), queries and streams.
_DIVIDER = re.compile(r"[^\w\s.~%+-]")
_UNREADABLE = "\ufffd"
_CONTROL = frozenset({"Cc", "Cs", "Zl", "Zp"})  # of Unicode's general categories: null, line ends, half characters
_IGNORED = frozenset({"Cf", "Mn", "Mc", "Me"})  # what has no width, and marks


def starts_within(value: str, prefix: str) -> bool:
    """Report whether a text starts with a prefix, and does not climb out of it again for any reader.

    It does not hold where a part of the text is `..`, as it is or once decoded: percent-encoding in any number of
    layers, compatible forms of Unicode (fullwidth dots, say), characters that are ignored. Nor does it where the text
    holds control characters, or what percent-encodes no UTF-8, or is longer than 64 Ki characters.
    """
    if len(value) > _LONGEST or not value.startswith(prefix):
        return False
    plain = _decoded(value)
    return plain is not None and not any(map(_climbs, _DIVIDER.split(plain)))


def _decoded(value: str) -> str | None:
    """Return a text as the laxest reader has it; None if that cannot be told."""
    for _ in range(_MOST_LAYERS):
        plain = simple(value)
        plain = unquote(_ENCODED_UNIT.sub(lambda unit: chr(int(unit[1] or unit[2], 16)), plain))
        if _UNREADABLE in plain and _UNREADABLE not in value:
            return None
        if plain == value:
            kinds = {character: unicodedata.category(character) for character in set(plain)}
            if not _CONTROL.isdisjoint(kinds.values()):
                return None
            return "".join(character for character in plain if kinds[character] not in _IGNORED)
        value = plain
    return None


def _climbs(part: str) -> bool:
    """Report whether a part of a path is `..`, with or without what readers trim; or more dots, of which some strip."""
    dots = "".join(part.split())
    return len(dots) > 1 and not dots.strip(".")
