"""The system's clock, and ids made of it and of randomness: the functions that are passed in elsewhere."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from broker.model.clock import Ids

_RANDOM_SIZE = 10  # bytes
_AT_ONCE = 256

boottime: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
)
"""Counts seconds, also those for which the machine sleeps, where the system has such a clock (Linux)."""


def system_clock() -> datetime:
    """Read the system's clock."""
    return datetime.now(UTC)


def boot_id() -> str:
    """Name the time since the machine was started; empty where the system has no name for it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def uuid7() -> str:
    """Make a UUID version 7 (RFC 9562 section 5.7): 48 bits of milliseconds, 74 random bits."""
    return _uuid7(os.urandom(_RANDOM_SIZE))


def uuid7_in_bulk() -> Ids:
    """Return what makes ids as `uuid7` does, but asks the system for randomness once for many. Threads may share it."""
    pool: deque[bytes] = deque()

    def make() -> str:
        while True:
            try:
                return _uuid7(pool.popleft())  # in one step: no two threads get the same
            except IndexError:
                fresh = os.urandom(_RANDOM_SIZE * _AT_ONCE)
                pool.extend(fresh[start : start + _RANDOM_SIZE] for start in range(0, len(fresh), _RANDOM_SIZE))

    return make


def _uuid7(random: bytes) -> str:
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(random)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
