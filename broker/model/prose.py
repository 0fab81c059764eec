"""Prose on one line, in any language: all that people write, but for what ends the line or changes how it reads."""

from __future__ import annotations

import unicodedata

_ENDING = frozenset({"Cc", "Cs", "Zl", "Zp"})
_STEERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""What embeds, overrides or isolates a direction (Unicode Standard Annex 9 section 2); marks beside a word are none."""


def is_harmless(letter: str) -> bool:
    """Report whether a letter, space, mark or joiner may stand in a line of prose. New ones, unknown here, may."""
    return letter.isprintable() or (unicodedata.category(letter) not in _ENDING and letter not in _STEERING)


def is_blank(text: str) -> bool:
    """Report whether nothing of a text can be seen."""
    return all(letter.isspace() or unicodedata.category(letter) == "Cf" for letter in text)


def named(letter: str) -> str:
    """Name a letter that cannot be shown."""
    return f"U+{ord(letter):04X}"
