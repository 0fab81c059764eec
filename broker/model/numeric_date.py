"""Instants as JWTs write them (RFC 7519 section 2, NumericDate): seconds since 1970, which may have a fraction."""

from __future__ import annotations

import math
from datetime import UTC, datetime

_LATEST = 253_402_300_799  # the end of the year 9999


def at_latest(value: object) -> datetime:
    """Return an instant in whole seconds, rounded down: for what ends then, so that it never lives on.

    Raises:
        ValueError: it is none.
    """
    return _instant(math.floor(_number(value)))


def at_earliest(value: object) -> datetime:
    """Return an instant in whole seconds, rounded up: for what begins then, so that it is never good before.

    Raises:
        ValueError: it is none.
    """
    return _instant(math.ceil(_number(value)))


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _LATEST:
        raise ValueError("is not a number of seconds since 1970")
    return value


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
