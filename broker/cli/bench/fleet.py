"""The verifiers of a bench: processes of watchers, which are told what to look at, and what they saw."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from broker.sandbox.broker import Broker
from broker.sandbox.problem import SandboxProblem
from broker.sandbox.process import process, read_line

_FEW = 50  # verifiers in a process: so that no process of ours is what they wait for
_MOST_PROCESSES = 8  # each holds some memory of its own
_LEAD_SECONDS = 0.1  # so that all processes begin together


@dataclass(frozen=True, slots=True)
class Fleet:
    """Connected verifiers of one resource."""

    size: int
    _brokers: Sequence[Broker]
    _started: Sequence[tuple[subprocess.Popen[str], Path]]

    def watch(self, token: str) -> None:
        """Let all of them look out for the end of a token.

        Raises:
            SandboxProblem: one of them does not accept it.
        """
        self._tell({"do": "watch", **self._shown(token)})
        if (accepting := self._sum("accepted")) != self.size:
            raise SandboxProblem(f"of {self.size} verifiers {accepting} accept a new credential")

    def refused_at(self) -> list[float]:
        """Wait until all of them refuse the token that they watch; return the instants since when they do."""
        return [instant for answer in self._hear() for instant in answer["refused_at"]]

    def accepting(self, token: str) -> int:
        """Return how many of them accept a token now."""
        self._tell({"do": "check", **self._shown(token)})
        return self._sum("accepted")

    def empty_rpcs(self) -> float:
        """Let each of them send an empty RPC over its own connection, all at a time; return the seconds they took."""
        start_at = time.monotonic() + _LEAD_SECONDS
        self._tell({"do": "empty", "start_at": start_at})
        done: list[float] = [answer["done"] for answer in self._hear()]
        return max(done) - start_at

    def wait_until_refreshed(self, since: float) -> None:
        """Wait until each of them was made fresh after an instant."""
        self._tell({"do": "wait", "since": since})
        self._hear()

    def _shown(self, token: str) -> dict[str, str]:
        return {"token": token, "tool": self._brokers[0].tool, "holder": self._brokers[0].agent}

    def _tell(self, plan: dict[str, Any]) -> None:
        for popen, _log in self._started:
            print(json.dumps(plan), file=popen.stdin, flush=True)

    def _hear(self) -> list[Any]:
        return [read_line(popen, log) for popen, log in self._started]

    def _sum(self, key: str) -> int:
        return sum(answer[key] for answer in self._hear())


@contextmanager
def fleet(brokers: Sequence[Broker], size: int, logs: Path) -> Iterator[Fleet]:
    """Connect so many verifiers, evenly to all brokers, for the time of a block."""
    processes = max(len(brokers), min(ceil(size / _FEW), _MOST_PROCESSES))
    with ExitStack() as stack:
        started = []
        for number in range(min(processes, size)):  # one after another: none has long for its first answers
            broker, log = brokers[number % len(brokers)], logs / f"watchers-{number}.log"
            count = len(range(number, size, processes))
            command = [sys.executable, "-m", "broker.cli.bench.watchers", str(count), broker.resource]
            environment = {**os.environ, **broker.environment("verifier")}
            started.append((stack.enter_context(process(command, log, environment)), log))
            read_line(*started[-1])
        yield Fleet(size, brokers, started)
