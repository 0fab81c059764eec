"""Lifetimes as a bundle writes them."""

from __future__ import annotations

import re
from datetime import timedelta

DEFAULT = timedelta(minutes=5)
"""The cap of a permit that names none."""

_LONGEST = timedelta(hours=24)
_FORM = re.compile(r"([0-9]{1,6})([smh])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours"}


def parse(text: str) -> timedelta:
    """Parse a lifetime such as `90s`, `5m` or `1h`; more than nothing, at most 24 hours.

    Raises:
        ValueError: it is none.
    """
    match = _FORM.fullmatch(text)
    lifetime = timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else timedelta(0)
    if not timedelta(0) < lifetime <= _LONGEST:
        raise ValueError(f"`{text}` is not a lifetime; write 1s to 24h, such as 90s, 5m or 1h")
    return lifetime
