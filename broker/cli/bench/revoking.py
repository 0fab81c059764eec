"""`credbroker bench revoke`: from an operator's call to the refusal in every verifier, and how that grows."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

from broker.cli.bench.filling import fill
from broker.cli.bench.measure import micros_each, milliseconds, processor_seconds
from broker.cli.unverified import decode
from broker.config.settings import load
from broker.identity.spiffe import parse_spiffe_id
from broker.sandbox import authority
from broker.sandbox.broker import Broker
from broker.sandbox.deployment import Deployment
from broker.sandbox.process import process, read_line
from broker.sdk.connect.connection import connect_sync
from broker.system import system_clock
from broker.v1 import operator_service_pb2 as pb
from broker.v1.operator_service_pb2_grpc import OperatorServiceStub
from broker.v1.selector_pb2 import Selector

_PER_PROCESS = 50  # verifiers: so that no process of ours is what they wait for
_PAIRS = 5  # of a large tenant and a small one
_CALL_SECONDS = 60
_ROOT = "root"  # the operator of all tenants


def measure(broker: Broker, logs: Path, verifiers: int, rounds: int) -> dict[str, Any]:
    """Connect verifiers, and revoke lease by lease: the time from the call to the refusal in each verifier.

    What a revocation costs the broker's processor holds the news to all of them.
    """
    with (
        _watchers(broker, verifiers, logs) as watchers,
        connect_sync(broker.address, broker.svids / "operator") as channel,
    ):
        operator, tokens, pid = OperatorServiceStub(channel), broker.issue(rounds), broker.pid
        before = 0.0 if pid is None else processor_seconds(pid)
        latencies = [late for token in tokens for late in _revoke(broker, watchers, operator, token)]
        spent = (
            {} if pid is None else {"server_cpu_us_per_request": micros_each(processor_seconds(pid) - before, rounds)}
        )
    return {**milliseconds(latencies), **spent, "verifiers": verifiers, "refusals": len(latencies)}


def fill_tenants(deployment: Deployment, leases: int) -> None:
    """Fill pairs of tenants, a large one and one with a single lease, before the broker starts."""
    large, small = _tenants()
    asyncio.run(fill(load(deployment.configuration), dict.fromkeys(large, leases) | dict.fromkeys(small, 1)))
    root = parse_spiffe_id("spiffe://example.org/operator/root")
    authority.issue(deployment.svids, _ROOT, root, (), timedelta(days=1), system_clock())


def measure_mass(broker: Broker) -> dict[str, Any]:
    """Revoke the tenants of `fill_tenants`. `mass_ratio` is the time of a large one's over that of its small one."""
    with connect_sync(broker.address, broker.svids / _ROOT) as channel:
        operator = OperatorServiceStub(channel)
        times = [[_revoke_tenant(operator, tenant) for tenant in pair] for pair in zip(*_tenants(), strict=True)]
    return {
        "mass_ratio": round(median(many / one for many, one in times), 3),
        "many_leases_ms": round(median(many for many, _ in times) * 1_000, 3),
        "one_lease_ms": round(median(one for _, one in times) * 1_000, 3),
    }


def _tenants() -> tuple[list[str], list[str]]:
    large, small = ([f"{size}-{pair}" for pair in range(_PAIRS)] for size in ("large", "small"))
    return large, small


@contextmanager
def _watchers(broker: Broker, count: int, logs: Path) -> Iterator[Sequence[_Watcher]]:
    sizes = [min(_PER_PROCESS, count - start) for start in range(0, count, _PER_PROCESS)]
    environment = {**os.environ, **broker.environment("verifier")}
    with ExitStack() as stack:
        watchers = []
        for number, size in enumerate(sizes):
            command = [sys.executable, "-m", "broker.cli.bench.watchers", str(size), broker.resource]
            log = logs / f"watchers-{number}.log"
            watchers.append(_Watcher(stack.enter_context(process(command, log, environment)), log))
        for watcher in watchers:
            watcher.read()
        yield watchers


class _Watcher:
    """A process of verifiers."""

    def __init__(self, popen: subprocess.Popen[str], log: Path) -> None:
        self._popen = popen
        self._log = log

    def read(self) -> Any:  # noqa: ANN401 (JSON)
        return read_line(self._popen, self._log)

    def expect(self, token: str, tool: str, holder: str) -> None:
        """Tell it which token will be revoked."""
        print(json.dumps({"token": token, "tool": tool, "holder": holder}), file=self._popen.stdin, flush=True)


def _revoke(broker: Broker, watchers: Sequence[_Watcher], operator: OperatorServiceStub, token: str) -> Iterator[float]:
    """Revoke one lease; return the seconds until each verifier refused it."""
    for watcher in watchers:
        watcher.expect(token, broker.tool, broker.agent)
    for watcher in watchers:
        watcher.read()  # all accept it
    claims = decode(token).claims
    selector = Selector(tenant=claims["credbroker"]["tenant"], lease_id=claims["jti"])
    before = time.monotonic()
    operator.RevokeLeases(pb.RevokeLeasesRequest(selector=selector, reason="bench"), timeout=_CALL_SECONDS)
    for watcher in watchers:
        for instant in watcher.read()["refused_at"]:
            yield instant - before


def _revoke_tenant(operator: OperatorServiceStub, tenant: str) -> float:
    """Revoke everything of a tenant; return the seconds until the broker has answered."""
    selector = Selector(tenant=tenant, everything=True)
    before = time.monotonic()
    operator.RevokeLeases(pb.RevokeLeasesRequest(selector=selector, reason="bench"), timeout=_CALL_SECONDS)
    return time.monotonic() - before
