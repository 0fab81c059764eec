"""Whether the number of leases that a revocation ends matters."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from statistics import median
from typing import Any

from broker.cli.bench.filling import fill
from broker.cli.bench.operators import Operators, operators
from broker.config.settings import load
from broker.identity.spiffe import parse_spiffe_id
from broker.sandbox import authority
from broker.sandbox.broker import Broker
from broker.sandbox.deployment import Deployment
from broker.system import system_clock
from broker.v1.selector_pb2 import Selector

_PAIRS = 5  # of a large tenant and a small one
_ROOT = "root"  # the operator of all tenants


def fill_tenants(deployment: Deployment, leases: int) -> dict[str, Any]:
    """Share live leases out to large tenants, and give one to each of as many small ones, before a broker starts."""
    began = time.monotonic()
    large, small = _tenants()
    counts = {tenant: len(range(number, leases, _PAIRS)) for number, tenant in enumerate(large)}
    asyncio.run(fill(load(deployment.configuration), counts | dict.fromkeys(small, 1)))
    root = parse_spiffe_id("spiffe://example.org/operator/root")
    authority.issue(deployment.svids, _ROOT, root, (), timedelta(days=1), system_clock())
    return {"leases": leases, "filled_in_s": round(time.monotonic() - began, 1)}


def measure_mass(brokers: Sequence[Broker]) -> dict[str, Any]:
    """Revoke the tenants of `fill_tenants`. `mass_ratio` is the time of a large one's over that of its small one."""
    with operators(brokers, _ROOT) as asking:
        times = [[_revoke(asking, tenant) for tenant in pair] for pair in zip(*_tenants(), strict=True)]
    return {
        "mass_ratio": round(median(many / one for many, one in times), 3),
        "many_leases_ms": round(median(many for many, _ in times) * 1_000, 3),
        "one_lease_ms": round(median(one for _, one in times) * 1_000, 3),
    }


def _tenants() -> tuple[list[str], list[str]]:
    large, small = ([f"{size}-{pair}" for pair in range(_PAIRS)] for size in ("large", "small"))
    return large, small


def _revoke(asking: Operators, tenant: str) -> float:
    """Revoke everything of a tenant; return the seconds until the broker has answered."""
    before = asking.revoke(Selector(tenant=tenant, everything=True))
    return time.monotonic() - before
