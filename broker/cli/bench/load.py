"""One load process: it calls one RPC for a while, from many coroutines, and prints what it saw as JSON.

python -m broker.cli.bench.load '{"rpc": "issue", ...}'
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from grpc_health.v1 import health_pb2, health_pb2_grpc

from broker.sdk.connection import connect
from broker.v1 import agent_service_pb2, agent_service_pb2_grpc, grant_pb2

Call = Callable[[], Awaitable[object]]


async def run(plan: dict[str, object]) -> dict[str, object]:
    """Carry a plan out: `rpc`, `address`, `svid_dir`, `start_at` (monotonic), `seconds`, `concurrency`."""
    async with connect(str(plan["address"]), Path(str(plan["svid_dir"]))) as channel:
        call = _empty(channel) if plan["rpc"] == "empty" else _issue(channel, plan)
        await call()  # the handshake is not what is measured
        start, seconds = float(str(plan["start_at"])), float(str(plan["seconds"]))
        await asyncio.sleep(max(0.0, start - time.monotonic()))
        latencies: list[float] = []
        await asyncio.gather(*(_worker(call, start + seconds, latencies) for _ in range(int(str(plan["concurrency"])))))
        return {"latencies": latencies, "elapsed": time.monotonic() - start}


async def _worker(call: Call, until: float, latencies: list[float]) -> None:
    while (before := time.monotonic()) < until:
        await call()
        latencies.append(time.monotonic() - before)


def _empty(channel) -> Call:  # type: ignore[no-untyped-def]  # noqa: ANN001 (grpc.aio.Channel or its like)
    stub = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest()
    return lambda: stub.Check(request)


def _issue(channel, plan: dict[str, object]) -> Call:  # type: ignore[no-untyped-def]  # noqa: ANN001
    stub = agent_service_pb2_grpc.AgentServiceStub(channel)
    request = agent_service_pb2.IssueCredentialRequest(
        task_id=str(plan["task_id"]),
        resource=str(plan["resource"]),
        grants=[grant_pb2.Grant(tool=str(plan["tool"]))],
    )
    return lambda: stub.IssueCredential(request)


if __name__ == "__main__":
    json.dump(asyncio.run(run(json.loads(sys.argv[1]))), sys.stdout)
