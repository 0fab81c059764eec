"""Durations as people write them: numbers and units put together, such as `90s`, `15m`, `1h30m` or `7d`."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}
_PART = re.compile(r"([0-9]{1,12})(d|h|ms|m|s)", re.ASCII)
_WHOLE = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)
_LONGEST = timedelta(seconds=315_576_000_000)  # 10,000 years, as google.protobuf.Duration


def parse_duration(text: str) -> timedelta:
    """Parse a duration: more than nothing, at most 10,000 years.

    Raises:
        ValueError: it is none.
    """
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"`{text}` is not a duration; write it like 90s, 15m, 1h30m or 7d")
    try:
        span = sum((int(count) * _UNITS[unit] for count, unit in _PART.findall(text)), timedelta())
    except OverflowError:
        span = timedelta.max
    if span > _LONGEST:
        raise ValueError(f"`{text}` is longer than any duration, which is at most 10,000 years")
    if not span:
        raise ValueError(f"must be longer than nothing, and `{text}` is no time at all")
    return span


def format_duration(span: timedelta) -> str:
    """Write a duration, to the millisecond, as `parse_duration` reads it; nothing as `0s`."""
    rest, parts = span, []
    for unit, size in _UNITS.items():
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
