"""What the benches measure with: percentiles, processor time and memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


def percentile(ordered: Sequence[float], per_cent: float) -> float:
    """Return a percentile of ascending values, by the nearest rank."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * per_cent / 100))]


def milliseconds(latencies: Sequence[float]) -> dict[str, float]:
    """Sum latencies in seconds up."""
    ordered = sorted(latencies)
    return {f"p{rank}_ms": round(percentile(ordered, rank) * 1_000, 3) for rank in (50, 90, 99)}


def processor_seconds(pid: int) -> float:
    """Report how much processor time a process has used, in user and kernel (proc(5): Linux).

    Raises:
        OSError: the system does not tell.
    """
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
