"""`credbroker bench revoke`: from an operator's call to the refusal in every verifier, and to the barrier's answer."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

import grpc

from broker.cli.bench.cluster import Cluster
from broker.cli.bench.fleet import Fleet
from broker.cli.bench.measure import micros_each, milliseconds, p99_ms, processor_seconds
from broker.cli.bench.operators import CALL_SECONDS, Operators, lease_of, operators
from broker.cli.bench.rounds import Load, loads
from broker.cli.failure import Stop
from broker.sandbox.broker import Broker

_FLOOD = Load(processes=1, concurrency=256, rounds=1, seconds=0, connections=16)  # to each broker, or worker
_TURNS = 5  # of quiet and of each flood
_CONFIRMATIONS = 10_000  # that are waited for in each of these: a thousand verifiers in a flood take seconds
_NOT_DECLARED = "not_declared"  # by the task: a tool that is refused
_YOUNG_SECONDS = 10.0  # for as long a broker may not know who believes the one before it


def measure(brokers: Sequence[Broker], fleet: Fleet, rounds: int) -> dict[str, Any]:
    """Revoke lease by lease: first without the barrier, until each verifier refuses; then with it.

    What a revocation costs the brokers' processors holds the news to all verifiers, and not their confirmations.
    """
    with operators(brokers) as asking:
        news = _measure_news(brokers, fleet, asking, rounds)
        return {**news, **_measure_barrier(brokers, fleet, asking, rounds), "verifiers": fleet.size}


def _measure_news(brokers: Sequence[Broker], fleet: Fleet, asking: Operators, rounds: int) -> dict[str, Any]:
    tokens, before, latencies, last = brokers[0].issue(rounds), processor_seconds(brokers), list[float](), list[float]()
    for token in tokens:
        fleet.watch(token)
        called = asking.revoke(lease_of(token))
        refused = [instant - called for instant in fleet.refused_at()]
        latencies += refused
        last.append(max(refused))
    spent = processor_seconds(brokers) - before
    return {
        **milliseconds(latencies),
        "everywhere_p99_ms": p99_ms(last),
        **({"server_cpu_us_per_request": micros_each(spent, rounds)} if _are_ours(brokers) else {}),
        "refusals": len(latencies),
    }


def _measure_barrier(brokers: Sequence[Broker], fleet: Fleet, asking: Operators, rounds: int) -> dict[str, Any]:
    """Alternate barriers, and as many empty RPCs as they wait for confirmations. Only brokers of ours have those."""
    barriers, empty = list[float](), list[float]()
    for token in brokers[0].issue(rounds):
        barriers.append(_barrier(fleet, asking, token))
        if _are_ours(brokers):
            empty.append(fleet.empty_rpcs())
    figures = {"barrier_p99_ms": p99_ms(barriers), "barrier_p50_ms": round(median(barriers) * 1_000, 3)}
    if not empty:
        return figures
    ratio = median(barriers) / median(empty)
    return {**figures, "barrier_ratio": round(ratio, 3), "empty_rpcs_p50_ms": round(median(empty) * 1_000, 3)}


def measure_flooded(brokers: Sequence[Broker], fleet: Fleet, rounds: int, logs: Path) -> dict[str, Any]:
    """Alternate barriers in quiet, under a full load of issuing, and under one of refusals, by turns.

    A revocation that is shed is counted, and took as long as a call may take. Of many verifiers there are fewer rounds.
    """
    rounds = min(rounds, max(1, _CONFIRMATIONS // fleet.size))
    turns, each = min(_TURNS, rounds), ceil(rounds / _TURNS)
    quiet, issuing, refusing = list[float](), list[float](), list[float]()
    with operators(brokers) as asking, loads(brokers, _FLOOD, logs) as flood:
        for _ in range(turns):
            first, second, third = (brokers[0].issue(each) for _ in range(3))
            quiet += _barriers(fleet, asking, first)
            with flood.flood(brokers[0].tool):
                issuing += _barriers(fleet, asking, second)
            with flood.flood(_NOT_DECLARED):
                refusing += _barriers(fleet, asking, third)
    return {
        "flooded_ratio": round(p99_ms(issuing) / p99_ms(quiet), 3),
        "flooded_refusals_ratio": round(p99_ms(refusing) / p99_ms(quiet), 3),
        "revocations_shed": sum(times.count(CALL_SECONDS) for times in (quiet, issuing, refusing)),
        "quiet_barrier_p99_ms": p99_ms(quiet),
        "flooded_barrier_p99_ms": p99_ms(issuing),
        "flooded_refusals_barrier_p99_ms": p99_ms(refusing),
    }


def measure_started(cluster: Cluster, fleet: Fleet, rounds: int) -> dict[str, Any]:
    """Start the brokers anew under their verifiers; when all are back, measure barriers while the brokers are young."""
    tokens, barriers = cluster.brokers[0].issue(rounds), list[float]()
    cluster.stop()
    away = time.monotonic()
    cluster.start()
    born = time.monotonic()
    fleet.wait_until_refreshed(away)
    with operators(cluster.brokers) as asking:
        for token in tokens:
            if barriers and time.monotonic() - born > _YOUNG_SECONDS:
                break
            barriers.append(_barrier(fleet, asking, token))
    return {"started_barrier_p99_ms": p99_ms(barriers), "started_barriers": len(barriers)}


def _barriers(fleet: Fleet, asking: Operators, tokens: Sequence[str]) -> Iterator[float]:
    """Return how long each took; CALL_SECONDS for one that the broker did not take, or did not close."""
    for token in tokens:
        try:
            yield _barrier(fleet, asking, token)
        except grpc.RpcError:
            yield CALL_SECONDS


def _barrier(fleet: Fleet, asking: Operators, token: str) -> float:
    """Revoke a lease with the barrier; return the seconds that it took.

    Raises:
        grpc.RpcError: the broker did not take it, or did not close it.
        Stop: a verifier still accepts it.
    """
    seconds = asking.barrier(token)
    if accepting := fleet.accepting(token):
        raise Stop(f"the barrier has returned, and {accepting} verifiers accept what was revoked")
    return seconds


def _are_ours(brokers: Sequence[Broker]) -> bool:
    """Report whether the bench has started them."""
    return brokers[0].pid is not None
