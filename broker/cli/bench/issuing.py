"""`credbroker bench issue`: credentials per second, beside empty RPCs, or several brokers beside one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from broker.cli.bench.cluster import Cluster
from broker.cli.bench.rounds import Load, Tally, loads, ratio
from broker.sandbox.broker import Broker
from broker.store import verification

_SHARED_CONNECTIONS = 16  # at least: so that each of several has about as many


def measure(broker: Broker, load: Load, logs: Path) -> dict[str, Any]:
    """Alternate rounds of empty RPCs and of issuing.

    A broker of the user's has no empty RPC (see `empty`), so nothing is compared there.
    """
    empty, issue, is_ours = Tally(), Tally(), broker.pid is not None
    with loads([broker], load, logs) as processes:
        processes.round("issue", Tally())  # warm
        for _ in range(load.rounds):
            if is_ours:
                processes.round("empty", empty)
            processes.round("issue", issue)
    figures = {**issue.figures(with_processor=is_ours), "requests": len(issue.latencies)}
    if not is_ours:
        return figures
    return {"ratio_to_empty_rpc": ratio(issue, empty), **figures, "empty_rpc": empty.figures(with_processor=True)}


def measure_shared(alone: Cluster, together: Cluster, load: Load, logs: Path) -> dict[str, Any]:
    """Alternate rounds of issuing at one broker, and at several on one database; then verify the ledger of these.

    `scaling` is how many times as many credentials several issue, `cpu_ratio` how many times as much of the processor
    each credential takes.
    """
    load = replace(load, connections=max(load.connections, _SHARED_CONNECTIONS))
    one, several = Tally(), Tally()
    with loads(alone.brokers, load, logs) as at_one, loads(together.brokers, load, logs) as at_several:
        at_one.round("issue", Tally())  # warm
        at_several.round("issue", Tally())
        for _ in range(load.rounds):
            at_one.round("issue", one)
            at_several.round("issue", several)
    figures, of_one = several.figures(with_processor=True), one.figures(with_processor=True)
    together.stop()
    return {
        "scaling": ratio(several, one),
        "cpu_ratio": round(figures["server_cpu_us_per_request"] / of_one["server_cpu_us_per_request"], 3),
        **figures,
        "requests": len(several.latencies),
        "connections": load.connections,
        "one": of_one,
        "ledger": _verified(together),
    }


def _verified(cluster: Cluster) -> dict[str, Any]:
    """Recompute a ledger, as `credbroker ledger verify` does."""
    report = verification.verify(cluster.deployment.settings().database_url)
    return {"ok": report.ok, "size": report.size, "findings": [finding.problem for finding in report.findings]}
