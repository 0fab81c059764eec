"""What the benches measure with: percentiles, processor time, and a broker of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from click import ClickException

_START_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Broker:
    """A running broker: its address, where its sample SVIDs are, and its process, if it is ours."""

    address: str
    svids: Path
    pid: int | None


@contextmanager
def own_broker(directory: Path) -> Iterator[Broker]:
    """Start `credbroker dev` as a process of its own, and stop it afterwards."""
    command = [sys.executable, "-m", "broker", "dev", "--dir", str(directory)]
    with (
        (directory / "broker.log").open("wb") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None  # noqa: S101 (it is a pipe)
            line = process.stdout.readline()
            if not line:
                tail = (directory / "broker.log").read_text(errors="replace")[-2_000:]
                raise ClickException(f"the broker did not start:\n{tail}")
            ready = json.loads(line)
            yield Broker(ready["address"], directory / "svids", process.pid)
        finally:
            process.terminate()
            try:
                process.wait(_START_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def percentile(ordered: Sequence[float], per_cent: float) -> float:
    """Give a percentile of ascending values, by the nearest rank."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * per_cent / 100))]


def milliseconds(ordered: Sequence[float]) -> dict[str, float]:
    """Sum latencies up, given in ascending seconds."""
    return {f"p{rank}_ms": round(percentile(ordered, rank) * 1_000, 3) for rank in (50, 90, 99)}


def processor_seconds(pid: int | None) -> float | None:
    """Tell how much processor time a process has used; None where the system does not say (`/proc` is Linux)."""
    if pid is None:
        return None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int | None:
    """Tell how much memory a process holds; None where the system does not say."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
