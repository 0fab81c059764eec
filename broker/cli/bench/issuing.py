"""`credbroker bench issue`: credentials per second, beside empty RPCs through the same connection."""

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

from broker.cli.bench.broker import Broker, process, read_line
from broker.cli.bench.measure import micros_each, milliseconds, processor_seconds

_LEAD_SECONDS = 0.2  # so that all load processes begin together


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much to ask for: so many processes, coroutines in each, and rounds of so many seconds of each kind."""

    processes: int
    concurrency: int
    rounds: int
    seconds: float


@dataclass(slots=True)
class _Outcome:
    """What rounds of one kind have shown."""

    latencies: list[float] = field(default_factory=list)
    throughputs: list[float] = field(default_factory=list)
    processor: float = 0.0

    def figures(self, *, with_processor: bool) -> dict[str, float]:
        found = {"throughput_per_s": round(median(self.throughputs), 1), **milliseconds(self.latencies)}
        if with_processor:
            found["server_cpu_us_per_request"] = micros_each(self.processor, len(self.latencies))
        return found


def measure(broker: Broker, load: Load, logs: Path) -> dict[str, Any]:
    """Alternate rounds of empty RPCs and of issuing.

    `ratio_to_empty_rpc` is the median over the rounds of the quotient of throughputs: neighbours in time are compared,
    so that a machine that slows down meanwhile does so for both. A broker of the user's has no empty RPC (see `empty`),
    so nothing is compared there.
    """
    empty, issue, pid = _Outcome(), _Outcome(), broker.pid
    what = {"task_id": broker.begin_task(), "resource": broker.resource, "tool": broker.tool}
    with _processes(broker.environment("researcher"), load.processes, logs) as loads:
        _round(loads, {"rpc": "issue", **what}, load, logs, _Outcome(), pid)  # warm
        for _ in range(load.rounds):
            if pid is not None:
                _round(loads, {"rpc": "empty"}, load, logs, empty, pid)
            _round(loads, {"rpc": "issue", **what}, load, logs, issue, pid)
    figures = {**issue.figures(with_processor=pid is not None), "requests": len(issue.latencies)}
    if pid is None:
        return figures
    ratios = [mine / bare for mine, bare in zip(issue.throughputs, empty.throughputs, strict=True)]
    return {
        "ratio_to_empty_rpc": round(median(ratios), 3),
        **figures,
        "empty_rpc": empty.figures(with_processor=True),
    }


@contextmanager
def _processes(environment: Mapping[str, str], count: int, logs: Path) -> Iterator[Sequence[subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "broker.cli.bench.load"]
    with ExitStack() as stack:
        loads = [
            stack.enter_context(process(command, logs / "load.log", {**os.environ, **environment}))
            for _ in range(count)
        ]
        for popen in loads:
            read_line(popen, logs / "load.log")
        yield loads


def _round(
    loads: Sequence[subprocess.Popen[str]],
    plan: Mapping[str, str],
    load: Load,
    logs: Path,
    outcome: _Outcome,
    pid: int | None,
) -> None:
    times = {"start_at": time.monotonic() + _LEAD_SECONDS, "seconds": load.seconds, "concurrency": load.concurrency}
    before = 0.0 if pid is None else processor_seconds(pid)
    for popen in loads:
        print(json.dumps({**plan, **times}), file=popen.stdin, flush=True)
    answers = [read_line(popen, logs / "load.log") for popen in loads]
    outcome.processor += 0.0 if pid is None else processor_seconds(pid) - before
    outcome.throughputs.append(sum(len(answer["latencies"]) / answer["seconds"] for answer in answers))
    for answer in answers:
        outcome.latencies += answer["latencies"]
