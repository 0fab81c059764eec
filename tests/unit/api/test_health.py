"""The health service: one truth for all services, told to those who ask and to those who watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from broker.api.health import Health

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
NAMES = ("", "broker.v1.AgentService")


class Part:
    """A part of the broker that may have a problem."""

    problem: str | None = None

    def sign(self) -> str | None:
        return self.problem


@asynccontextmanager
async def serving(health: Health) -> AsyncIterator[health_pb2_grpc.HealthStub]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((health.handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    running = asyncio.create_task(health.run())
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield health_pb2_grpc.HealthStub(channel)
    running.cancel()
    await server.stop(0)


def request(name: str = "") -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=name)


async def test_each_service_is_as_well_as_the_worst_part_and_watchers_hear_of_it() -> None:
    one, other = Part(), Part()
    health = Health([one.sign, other.sign])
    health.names(NAMES[1:])
    async with serving(health) as stub:
        watches = [stub.Watch(request(name)) for name in NAMES]
        assert [(await watch.read()).status for watch in watches] == [SERVING, SERVING]
        other.problem = "the disk is full"
        assert [(await watch.read()).status for watch in watches] == [NOT_SERVING, NOT_SERVING]
        assert [(await stub.Check(request(name))).status for name in NAMES] == [NOT_SERVING, NOT_SERVING]
        other.problem = None
        assert [(await watch.read()).status for watch in watches] == [SERVING, SERVING]
        assert [(await stub.Check(request(name))).status for name in NAMES] == [SERVING, SERVING]


async def test_a_service_that_there_is_not_is_unknown() -> None:
    async with serving(Health([])) as stub:
        assert (await stub.Watch(request("nonsense")).read()).status == SERVICE_UNKNOWN
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Check(request("nonsense"))
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_broker_that_stops_says_so_and_lets_watchers_go() -> None:
    part = Part()
    health = Health([part.sign])
    async with serving(health) as stub:
        watch = stub.Watch(request())
        assert (await watch.read()).status == SERVING
        health.stop()
        assert (await watch.read()).status == NOT_SERVING
        assert await watch.read() is grpc.aio.EOF
        part.problem = "something"
        part.problem = None
        await asyncio.sleep(1)
        assert (await stub.Check(request())).status == NOT_SERVING
