"""Lifetimes as a bundle writes them."""

from __future__ import annotations

from datetime import timedelta

from broker.model.duration import parse_duration

DEFAULT = timedelta(minutes=5)
"""The cap of a permit that names none."""

_SHORTEST, _LONGEST = timedelta(seconds=1), timedelta(hours=24)


def parse(text: str) -> timedelta:
    """Parse a lifetime such as `90s`, `5m` or `1h`; a second to 24 hours.

    Raises:
        ValueError: it is none.
    """
    try:
        lifetime = parse_duration(text)
    except ValueError:
        lifetime = timedelta(0)
    if not _SHORTEST <= lifetime <= _LONGEST:
        raise ValueError(f"`{text}` is not a lifetime; write 1s to 24h, such as 90s, 5m or 1h")
    return lifetime
