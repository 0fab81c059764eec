"""Rounds of load: what load processes are asked for, by turns, and what they saw."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from broker.cli.bench.measure import micros_each, milliseconds, processor_seconds
from broker.sandbox.broker import Broker
from broker.sandbox.process import process, read_line

_LEAD_SECONDS = 0.2  # so that all load processes begin together


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much to ask for: so many processes, coroutines in each, and rounds of so many seconds of each kind."""

    processes: int
    concurrency: int
    rounds: int
    seconds: float


@dataclass(slots=True)
class Tally:
    """What rounds of one kind have shown."""

    latencies: list[float] = field(default_factory=list)
    throughputs: list[float] = field(default_factory=list)
    processor: float = 0.0

    def figures(self, *, with_processor: bool) -> dict[str, float]:
        """Sum them up."""
        found = {"throughput_per_s": round(median(self.throughputs), 1), **milliseconds(self.latencies)}
        if with_processor:
            found["server_cpu_us_per_request"] = micros_each(self.processor, len(self.latencies))
        return found


def ratio(over: Tally, under: Tally) -> float:
    """Return the median over the rounds of the quotient of throughputs.

    Neighbours in time are compared, so that a machine that slows down meanwhile does so for both.
    """
    return round(median(a / b for a, b in zip(over.throughputs, under.throughputs, strict=True)), 3)


class Loads:
    """Load processes of one agent at a broker."""

    def __init__(self, broker: Broker, load: Load, log: Path, started: Sequence[subprocess.Popen[str]]) -> None:
        self._load = load
        self._log = log
        self._started = started
        self._pid = broker.pid
        self._what = {"task_id": broker.begin_task(), "resource": broker.resource, "tool": broker.tool}

    def round(self, rpc: str, outcome: Tally) -> None:
        """Call one RPC for the time of a round, in all of them."""
        load = self._load
        times = {"start_at": time.monotonic() + _LEAD_SECONDS, "seconds": load.seconds, "concurrency": load.concurrency}
        before = self._processor()
        answers = self.ask({"rpc": rpc, **self._what, **times})
        outcome.processor += self._processor() - before
        outcome.throughputs.append(sum(len(answer["latencies"]) / answer["seconds"] for answer in answers))
        for answer in answers:
            outcome.latencies += answer["latencies"]

    def hold(self, count: int) -> None:
        """Let each of them get so many credentials, which it renews from then on."""
        self.ask({"rpc": "hold", **self._what, "count": count})

    def ask(self, plan: Mapping[str, Any]) -> list[Any]:
        """Send each of them the same plan; return their answers."""
        for popen in self._started:
            print(json.dumps(plan), file=popen.stdin, flush=True)
        return [read_line(popen, self._log) for popen in self._started]

    def _processor(self) -> float:
        return 0.0 if self._pid is None else processor_seconds(self._pid)


@contextmanager
def loads(broker: Broker, load: Load, logs: Path) -> Iterator[Loads]:
    """Run the load processes for the time of a block."""
    command, log = [sys.executable, "-m", "broker.cli.bench.load"], logs / "load.log"
    environment = {**os.environ, **broker.environment("researcher")}
    with ExitStack() as stack:
        started = [stack.enter_context(process(command, log, environment)) for _ in range(load.processes)]
        for popen in started:
            read_line(popen, log)
        yield Loads(broker, load, log, started)
