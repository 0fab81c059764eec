"""`credbroker bench issue`: credentials per second, beside empty RPCs through the same connection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from broker.cli.bench.rounds import Load, Tally, loads, ratio
from broker.sandbox.broker import Broker


def measure(broker: Broker, load: Load, logs: Path) -> dict[str, Any]:
    """Alternate rounds of empty RPCs and of issuing.

    A broker of the user's has no empty RPC (see `empty`), so nothing is compared there.
    """
    empty, issue, is_ours = Tally(), Tally(), broker.pid is not None
    with loads(broker, load, logs) as processes:
        processes.round("issue", Tally())  # warm
        for _ in range(load.rounds):
            if is_ours:
                processes.round("empty", empty)
            processes.round("issue", issue)
    figures = {**issue.figures(with_processor=is_ours), "requests": len(issue.latencies)}
    if not is_ours:
        return figures
    return {"ratio_to_empty_rpc": ratio(issue, empty), **figures, "empty_rpc": empty.figures(with_processor=True)}
