"""Names of members, as readers take them that do not ask for the exact spelling."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection


def simple(text: str) -> str:
    """Return a text with each character in its simplest form (NFKD): fullwidth ones plain, marks by themselves.

    One by one, as marks are not put in order then: sorting a long run of them takes quadratic time.
    """
    if text.isascii():
        return text
    return text.translate({ord(one): unicodedata.normalize("NFKD", one) for one in set(text)})


def folded(name: str) -> str:
    """Return what is the same for all spellings of a name that some reader takes for one another.

    Go's encoding/json ignores case by simple folding (so the Kelvin sign is a k, and the long s an s), other readers by
    upper case (so the dotless i is an i); some ignore `-` and `_`, or take snake and camel case for the same; some
    bring Unicode into a normal form, drop marks, trim, or stop at a null character.
    """
    plain = name.lower() if name.isascii() else simple(name).upper().casefold()
    return plain if plain.isalnum() else "".join(filter(str.isalnum, plain)) or plain


def are_distinct(names: Collection[str]) -> bool:
    """Report whether no two names are spellings of one another."""
    return len({folded(name) for name in names}) == len(names)
