"""A desk that answers agents and orchestrators on loopback, over real mutual TLS, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import grpc

from broker.model.errors import Refusal
from broker.model.task import TaskState
from broker.sdk.connect.endpoint import Endpoint
from broker.system import system_clock
from broker.v1 import agent_service_pb2 as agent_pb
from broker.v1 import agent_service_pb2_grpc, lease_pb2, orchestrator_service_pb2_grpc, task_pb2
from broker.v1 import orchestrator_service_pb2 as orchestrator_pb
from broker.wire.tasks import task_state_from_wire
from broker.wire.times import instant_to_wire
from tests.support.fakes import abort, authority, eventually, server_credentials, write_svid


@dataclass
class FakeDesk:
    """`refusals` are given first, one per call; then `refused_always`."""

    lifetime: timedelta = timedelta(minutes=5)
    ends: datetime | None = None  # of leases, whatever their lifetime
    leases: int = 0
    calls: list[str] = field(default_factory=list)
    request_ids: list[str] = field(default_factory=list)
    proofs: list[str] = field(default_factory=list)
    explanations: list[str] = field(default_factory=list)
    outcomes: list[TaskState] = field(default_factory=list)
    refusals: dict[str, list[Refusal]] = field(default_factory=dict)
    refused_always: dict[str, Refusal] = field(default_factory=dict)
    released: list[str] = field(default_factory=list)
    held: set[str] = field(default_factory=set)  # calls that are not answered as long as they are in it

    async def note(self, name: str, request: Any, context: Any) -> None:
        self.calls.append(name)
        self.request_ids.append(getattr(request, "request_id", ""))
        self.proofs += [value for name, value in context.invocation_metadata() if name == "dpop"]
        waiting = self.refusals.get(name)
        if waiting:
            await abort(context, waiting.pop(0))
        if name in self.refused_always:
            await abort(context, self.refused_always[name])
        await eventually(lambda: name not in self.held)

    def lease(self) -> lease_pb2.Lease:
        expire_time = instant_to_wire(self.ends or system_clock() + self.lifetime)
        return lease_pb2.Lease(lease_id=f"l-{self.leases}", expire_time=expire_time)


class Agents(agent_service_pb2_grpc.AgentServiceServicer):
    def __init__(self, desk: FakeDesk) -> None:
        self.desk = desk

    async def IssueCredential(self, request: Any, context: Any) -> agent_pb.IssueCredentialResponse:  # noqa: N802
        await self.desk.note("issue", request, context)
        self.desk.explanations.append(request.explanation)
        self.desk.leases += 1
        return agent_pb.IssueCredentialResponse(token=f"token-{self.desk.leases}.0", lease=self.desk.lease())

    async def RenewCredential(self, request: Any, context: Any) -> agent_pb.RenewCredentialResponse:  # noqa: N802
        await self.desk.note("renew", request, context)
        token = f"token-{self.desk.leases}.{self.desk.calls.count('renew')}"
        return agent_pb.RenewCredentialResponse(token=token, lease=self.desk.lease())

    async def ReleaseCredential(self, request: Any, context: Any) -> agent_pb.ReleaseCredentialResponse:  # noqa: N802
        await self.desk.note("release", request, context)
        self.desk.released.append(request.lease_id)
        return agent_pb.ReleaseCredentialResponse(index=7)


class Orchestrators(orchestrator_service_pb2_grpc.OrchestratorServiceServicer):
    def __init__(self, desk: FakeDesk) -> None:
        self.desk = desk

    async def CreateTask(self, request: Any, context: Any) -> task_pb2.Task:  # noqa: N802
        await self.desk.note("create", request, context)
        return task_pb2.Task(
            task_id="t-1",
            environment=request.environment,
            deadline=request.deadline,
            state=task_pb2.TASK_STATE_ACTIVE,
            create_time=instant_to_wire(system_clock()),
        )

    async def EndTask(self, request: Any, context: Any) -> orchestrator_pb.EndTaskResponse:  # noqa: N802
        await self.desk.note("end", request, context)
        self.desk.outcomes.append(task_state_from_wire(request.outcome, "outcome"))
        return orchestrator_pb.EndTaskResponse(index=9)

    async def GetTask(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise AssertionError("the client does not look")

    ListTasks = ExtendTask = GetTask


@asynccontextmanager
async def serving(desk: FakeDesk, folder: Path) -> AsyncIterator[Endpoint]:
    root = authority()
    server = grpc.aio.server()
    agent_service_pb2_grpc.add_AgentServiceServicer_to_server(Agents(desk), server)
    orchestrator_service_pb2_grpc.add_OrchestratorServiceServicer_to_server(Orchestrators(desk), server)
    credentials = server_credentials(write_svid(folder / "broker", root, "spiffe://example.org/broker"))
    port = server.add_secure_port("localhost:0", credentials)
    await server.start()
    try:
        yield Endpoint.of(f"localhost:{port}", write_svid(folder / "us", root, "spiffe://example.org/agent/researcher"))
    finally:
        await server.stop(None)
