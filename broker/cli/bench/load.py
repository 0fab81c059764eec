"""One load process: it calls one RPC from many coroutines, round after round, and says what it saw.

Each line on stdin is a round: `rpc` ("empty", "issue" or "renew"), `start_at` on the monotonic clock, `seconds` and
`concurrency`, and `task_id`, `resource` and `tool`; or, with the `rpc` "hold", a `count` of credentials to get, which
rounds of "renew" then renew in turn. Each line on stdout is its outcome.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import cycle
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty

from broker.cli.bench import empty
from broker.sdk.connect.connection import connect
from broker.v1 import agent_service_pb2, agent_service_pb2_grpc, grant_pb2

Call = Callable[[], Awaitable[Any]]


async def main() -> None:
    """Carry rounds out until stdin ends; the broker and the SVID come from the environment."""
    async with connect() as channel:
        await channel.channel_ready()  # the handshake is not what is measured
        _say({"ready": True, "pid": os.getpid()})
        held: list[str] = []
        while line := await asyncio.to_thread(sys.stdin.readline):
            plan = json.loads(line)
            if plan["rpc"] == "hold":
                issued = await asyncio.gather(*(_issue(channel, plan)() for _ in range(plan["count"])))
                held = [answer.lease.lease_id for answer in issued]
                _say({"held": len(held)})
            else:
                _say(await _round(_call(channel, plan, held), plan))


def _call(channel: grpc.aio.Channel, plan: dict[str, Any], held: Sequence[str]) -> Call:
    match plan["rpc"]:
        case "empty":
            return _empty(channel)
        case "renew":
            return _renew(channel, held)
        case _:
            return _issue(channel, plan)


async def _round(call: Call, plan: dict[str, Any]) -> dict[str, Any]:
    await asyncio.sleep(max(0.0, plan["start_at"] - time.monotonic()))
    began, latencies = time.monotonic(), list[float]()
    await asyncio.gather(*(_worker(call, began + plan["seconds"], latencies) for _ in range(plan["concurrency"])))
    return {"latencies": latencies, "seconds": time.monotonic() - began}


async def _worker(call: Call, until: float, latencies: list[float]) -> None:
    while (before := time.monotonic()) < until:
        await call()
        latencies.append(time.monotonic() - before)


def _empty(channel: grpc.aio.Channel) -> Call:
    stub, request = empty.stub(channel), Empty()
    return lambda: stub(request)


def _issue(channel: grpc.aio.Channel, plan: dict[str, Any]) -> Call:
    stub = agent_service_pb2_grpc.AgentServiceStub(channel)
    request = agent_service_pb2.IssueCredentialRequest(
        task_id=plan["task_id"], resource=plan["resource"], grants=[grant_pb2.Grant(tool=plan["tool"])]
    )
    return lambda: stub.IssueCredential(request)


def _renew(channel: grpc.aio.Channel, held: Sequence[str]) -> Call:
    stub = agent_service_pb2_grpc.AgentServiceStub(channel)
    requests = cycle([agent_service_pb2.RenewCredentialRequest(lease_id=lease) for lease in held])
    return lambda: stub.RenewCredential(next(requests))


def _say(document: dict[str, Any]) -> None:
    print(json.dumps(document), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
