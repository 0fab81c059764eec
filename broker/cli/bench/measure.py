"""What the benches measure with: percentiles, processor time, memory and the disk."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from broker.sandbox.broker import Broker

_BLOCK = b"\0" * 4_096
_WRITES = 100


def percentile(ordered: Sequence[float], per_cent: float) -> float:
    """Return a percentile of ascending values, by the nearest rank."""
    return ordered[max(1, math.ceil(len(ordered) * per_cent / 100)) - 1]


def milliseconds(latencies: Sequence[float]) -> dict[str, float]:
    """Sum latencies in seconds up."""
    ordered = sorted(latencies)
    return {f"p{rank}_ms": round(percentile(ordered, rank) * 1_000, 3) for rank in (50, 90, 99)}


def p99_ms(latencies: Sequence[float]) -> float:
    """Return the 99th percentile of latencies in seconds."""
    return milliseconds(latencies)["p99_ms"]


def processor_seconds(brokers: Iterable[Broker]) -> float:
    """Report how much processor time brokers have used, in user and kernel, with all their workers (proc(5): Linux).

    A broker whose process is not ours counts as nothing.

    Raises:
        OSError: the system does not tell.
    """
    return sum(_processor_seconds(broker.pid) for broker in brokers if broker.pid is not None)


def _processor_seconds(pid: int) -> float:
    of_process = Path(f"/proc/{pid}")
    fields = (of_process / "stat").read_text(encoding="ascii").rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    children = [file.read_text(encoding="ascii").split() for file in of_process.glob("task/*/children")]
    return own + sum(_processor_seconds(int(child)) for of_thread in children for child in of_thread)


def micros_each(seconds: float, count: int) -> float:
    """Return the microseconds that each of so many took, to a tenth."""
    return round(seconds / count * 1_000_000, 1)


def resident_bytes(pid: int) -> int:
    """Report how much memory a process holds (proc(5): Linux).

    Raises:
        OSError: the system does not tell.
    """
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def fsync_ms(directory: Path) -> float:
    """Measure how long it takes to have 4 KiB on the disk of a folder; return the median of some attempts.

    Raises:
        OSError: the folder cannot be written.
    """
    file, taken = directory / "fsync", list[float]()
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for _ in range(_WRITES):
            before = time.perf_counter()
            os.write(descriptor, _BLOCK)
            os.fsync(descriptor)
            taken.append(time.perf_counter() - before)
    finally:
        os.close(descriptor)
        file.unlink()
    return round(median(taken) * 1_000, 3)
