"""One load process: it calls one RPC from many coroutines, round after round, and says what it saw.

python -m broker.cli.bench.load ADDRESS...

It opens a connection for each address; the coroutines share them out. A plan is a round: `rpc` ("empty", "issue",
"renew" or "flood"), `start_at` on the monotonic clock, `seconds` and `concurrency`, and `task_id`, `resource` and
`tool`; or, with the `rpc` "hold", a `count` of credentials to get, which rounds of "renew" then renew in turn. A round
ends when another plan comes, too: "stop" does nothing else. "flood" issues, whatever the answers are.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from itertools import cycle
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty

from broker.cli.bench import empty
from broker.cli.bench.plans import Plans, carry_out, say
from broker.sdk.connect.connection import connect
from broker.v1 import agent_service_pb2, agent_service_pb2_grpc, grant_pb2

Call = Callable[[], Awaitable[Any]]


async def main(addresses: Sequence[str], plans: Plans) -> None:
    """Carry rounds out until cancelled; the SVID comes from the environment."""
    async with AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(connect(address)) for address in addresses]
        for channel in channels:
            await channel.channel_ready()  # the handshake is not what is measured
        say({"ready": True, "pid": os.getpid()})
        held: list[str] = []
        while True:
            match (plan := await plans.get())["rpc"]:
                case "stop":
                    pass  # what it has stopped has answered
                case "hold":
                    issue = _issue(channels[0], plan)
                    answers = await asyncio.gather(*(issue() for _ in range(plan["count"])))
                    held = [answer.lease.lease_id for answer in answers]
                    say({"held": len(held)})
                case _:
                    say(await _round(_calls(channels, plan, held), plan, plans))


def _calls(channels: Sequence[grpc.aio.Channel], plan: dict[str, Any], held: Sequence[str]) -> list[Call]:
    """Return, for each connection, what calls the RPC over it."""
    match plan["rpc"]:
        case "empty":
            return [_empty(channel) for channel in channels]
        case "renew":
            requests = cycle([agent_service_pb2.RenewCredentialRequest(lease_id=lease) for lease in held])
            return [_renew(channel, requests) for channel in channels]
        case "flood":
            return [partial(_whatever_comes, _issue(channel, plan)) for channel in channels]
        case _:
            return [_issue(channel, plan) for channel in channels]


async def _round(calls: Sequence[Call], plan: dict[str, Any], plans: Plans) -> dict[str, Any]:
    await asyncio.sleep(max(0.0, plan["start_at"] - time.monotonic()))
    began, latencies = time.monotonic(), list[float]()
    until = began + plan["seconds"]

    async def keep_calling(call: Call) -> None:
        while (before := time.monotonic()) < until and plans.empty():
            await call()
            latencies.append(time.monotonic() - before)

    await asyncio.gather(*(keep_calling(calls[number % len(calls)]) for number in range(plan["concurrency"])))
    return {"latencies": latencies, "seconds": time.monotonic() - began}


async def _whatever_comes(call: Call) -> None:
    with suppress(grpc.aio.AioRpcError):
        await call()


def _empty(channel: grpc.aio.Channel) -> Call:
    stub, request = empty.stub(channel), Empty()
    return lambda: stub(request)


def _issue(channel: grpc.aio.Channel, plan: dict[str, Any]) -> Call:
    stub = agent_service_pb2_grpc.AgentServiceStub(channel)
    request = agent_service_pb2.IssueCredentialRequest(
        task_id=plan["task_id"], resource=plan["resource"], grants=[grant_pb2.Grant(tool=plan["tool"])]
    )
    return lambda: stub.IssueCredential(request)


def _renew(channel: grpc.aio.Channel, requests: Iterator[agent_service_pb2.RenewCredentialRequest]) -> Call:
    stub = agent_service_pb2_grpc.AgentServiceStub(channel)
    return lambda: stub.RenewCredential(next(requests))


if __name__ == "__main__":
    asyncio.run(carry_out(partial(main, sys.argv[1:])))
