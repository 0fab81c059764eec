"""`credbroker bench scale`: start-up and memory with many live leases, beside an empty database."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from statistics import median
from typing import Any

from broker.cli.bench.filling import fill
from broker.cli.bench.measure import micros_each, processor_seconds, resident_bytes
from broker.config.settings import load
from broker.sandbox.broker import prepare, running

_TENANT = "acme"
_CREDENTIALS = 200  # issued before memory is looked at, so that caches are warm
_SETTLE_SECONDS = 1.0
_MEBIBYTE = 1 << 20


def measure(empty: Path, full: Path, leases: int, rules: int, rounds: int) -> dict[str, Any]:
    """Fill one of two databases, and start brokers on them by turns.

    `startup_ratio` is that of the quickest starts: they do the same each time, and what slows one down is the machine.
    """
    asyncio.run(fill(load(prepare(empty).configuration), {}))
    began = time.monotonic()
    asyncio.run(fill(load(prepare(full).configuration), {_TENANT: leases}, rules))
    filled_in = time.monotonic() - began
    pairs = [_pair(full, empty, full_first=bool(number % 2)) for number in range(rounds)]
    quickest, empty_quickest = (min(start[0] for start in starts) for starts in zip(*pairs, strict=True))
    return {
        "startup_ratio": round(quickest / empty_quickest, 3),
        "memory_ratio": round(median(large[1] / small[1] for large, small in pairs), 3),
        "server_cpu_us_per_request": round(median(large[2] for large, _ in pairs), 1),
        "empty_server_cpu_us_per_request": round(median(small[2] for _, small in pairs), 1),
        "startup_s": round(quickest, 3),
        "empty_startup_s": round(empty_quickest, 3),
        "memory_mib": round(median(large[1] for large, _ in pairs) / _MEBIBYTE, 1),
        "empty_memory_mib": round(median(small[1] for _, small in pairs) / _MEBIBYTE, 1),
        "leases": leases,
        "rules": rules,
        "filled_in_s": round(filled_in, 1),
    }


def _pair(full: Path, empty: Path, *, full_first: bool) -> tuple[tuple[float, int, float], tuple[float, int, float]]:
    """Start on both; which comes first takes turns, too."""
    if full_first:
        return _start(full), _start(empty)
    second = _start(empty)
    return _start(full), second


def _start(directory: Path) -> tuple[float, int, float]:
    """Start a broker and let it issue.

    Returns the seconds until it was ready, the bytes that it holds, and the processor's microseconds for a credential.
    """
    with running(directory) as broker:
        assert broker.pid is not None  # noqa: S101 (it is ours)
        before = processor_seconds([broker])
        broker.issue(_CREDENTIALS)
        spent = micros_each(processor_seconds([broker]) - before, _CREDENTIALS)
        time.sleep(_SETTLE_SECONDS)
        return broker.started_in, resident_bytes(broker.pid), spent
