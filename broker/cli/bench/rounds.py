"""Rounds of load: what load processes are asked for, by turns, and what they saw."""

from __future__ import annotations

import json
import math
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
    """How much to ask for: so many processes, coroutines in each, and rounds of so many seconds of each kind.

    They share so many `connections` out, as far as there is one for each.
    """

    processes: int
    concurrency: int
    rounds: int
    seconds: float
    connections: int = 1


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
    """Load processes of one agent at brokers of one database."""

    def __init__(
        self, brokers: Sequence[Broker], load: Load, log: Path, started: Sequence[subprocess.Popen[str]]
    ) -> None:
        self._load = load
        self._log = log
        self._started = started
        self._brokers = brokers
        first = brokers[0]
        self._what = {"task_id": first.begin_task(), "resource": first.resource, "tool": first.tool}

    def round(self, rpc: str, outcome: Tally) -> None:
        """Call one RPC for the time of a round, in all of them."""
        before = processor_seconds(self._brokers)
        answers = self._ask(self._round(rpc, self._load.seconds))
        outcome.processor += processor_seconds(self._brokers) - before
        outcome.throughputs.append(sum(len(answer["latencies"]) / answer["seconds"] for answer in answers))
        for answer in answers:
            outcome.latencies += answer["latencies"]

    def hold(self, count: int) -> None:
        """Let each of them get so many credentials, which it renews from then on."""
        self._ask({"rpc": "hold", **self._what, "count": count})

    @contextmanager
    def flood(self, tool: str) -> Iterator[None]:
        """Let all of them ask for credentials for a tool during a block, whatever is answered."""
        self._tell(self._round("flood", math.inf) | {"tool": tool})
        try:
            yield
        finally:
            self._tell({"rpc": "stop"})
            self._hear()

    def _round(self, rpc: str, seconds: float) -> dict[str, Any]:
        times = {"start_at": time.monotonic() + _LEAD_SECONDS, "seconds": seconds}
        return {"rpc": rpc, **self._what, **times, "concurrency": self._load.concurrency}

    def _ask(self, plan: Mapping[str, Any]) -> list[Any]:
        self._tell(plan)
        return self._hear()

    def _tell(self, plan: Mapping[str, Any]) -> None:
        for popen in self._started:
            print(json.dumps(plan), file=popen.stdin, flush=True)

    def _hear(self) -> list[Any]:
        return [read_line(popen, self._log) for popen in self._started]


@contextmanager
def loads(brokers: Sequence[Broker], load: Load, logs: Path) -> Iterator[Loads]:
    """Run the load processes for the time of a block."""
    log, environment = logs / "load.log", {**os.environ, **brokers[0].environment("researcher")}
    addresses = [brokers[number % len(brokers)].address for number in range(max(load.connections, load.processes))]
    with ExitStack() as stack:
        started = []
        for number in range(load.processes):
            command = [sys.executable, "-m", "broker.cli.bench.load", *addresses[number :: load.processes]]
            started.append(stack.enter_context(process(command, log, environment)))
        for popen in started:
            read_line(popen, log)
        yield Loads(brokers, load, log, started)
