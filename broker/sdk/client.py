"""The client for agents and orchestrators: tasks and credentials as blocks, at whose end they are dead.

An orchestrator writes ``async with Client() as client, client.task(declaration) as task: …``, an agent
``async with client.credential(task_id, resource, [Grant("read_file")]) as credential: …`` and in it, for each call,
``credential.headers("POST", url)``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self, TypeVar

import grpc

from broker.credential.keys import EcSigner
from broker.model.clock import Clock, Ids, system_clock, uuid7
from broker.model.errors import Reason, Refusal
from broker.model.grant import Grant, ResourceGrants
from broker.model.task import Environment, Task, TaskState
from broker.sdk.connection import Connection, Endpoint
from broker.sdk.identity import Identity
from broker.sdk.possession import Prover, issuer_of
from broker.sdk.refusals import refusal_from
from broker.sdk.secret import Secret
from broker.v1 import agent_service_pb2 as agent_pb
from broker.v1 import agent_service_pb2_grpc, lease_pb2, orchestrator_service_pb2_grpc
from broker.v1 import orchestrator_service_pb2 as orchestrator_pb
from broker.wire.grants import grants_to_wire, resources_to_wire
from broker.wire.tasks import task_from_wire, task_state_to_wire
from broker.wire.times import duration_to_wire, instant_from_wire, instant_to_wire

T = TypeVar("T")
Metadata = tuple[tuple[str, str], ...]

_CALL_SECONDS = 10.0
_RENEW_AFTER = 2 / 3  # of a token's life
_RETRY_SECONDS = 1.0
_AGENT_SERVICE = agent_pb.DESCRIPTOR.services_by_name["AgentService"].full_name
_GIVE_UP = (Reason.LEASE_NOT_LIVE, Reason.LEASE_NOT_FOUND, Reason.TASK_NOT_ACTIVE, Reason.LIFETIME_EXHAUSTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDeclaration:
    """What an orchestrator declares of a task: the fields of CreateTaskRequest, with a lifetime for a deadline."""

    owner: str
    purpose: str
    environment: Environment
    agents: Sequence[str]
    tools: Sequence[ResourceGrants]
    lifetime: timedelta
    risk_threshold: int = 50


@dataclass(slots=True, kw_only=True)
class Credential:
    """A credential in hand, for one resource. `token` and `expires_at` move on when it is renewed, so ask each time.

    `prover` is there if it is bound to a key.
    """

    lease_id: str
    resource: str
    token: Secret
    expires_at: datetime
    prover: Prover | None = None

    def headers(self, method: str, url: str, nonce: str = "") -> dict[str, str]:
        """Give the headers for one request: the token, and a fresh proof if it is bound to a key (RFC 9449 section 7).

        `nonce` is what the server wants to see in proofs, if it has said so. The headers are secret.
        """
        token = self.token.reveal()
        if self.prover is None:
            return {"authorization": f"Bearer {token}"}
        proof = self.prover.prove(method, url, token=token, nonce=nonce)
        return {"authorization": f"DPoP {token}", "dpop": proof}


class Client:
    """Calls a broker, as the workload whose X.509-SVID is in a folder, or by another `identity`.

    A call that may have been lost is sent once more, under the same request id, so that it happens once.
    """

    def __init__(
        self,
        address: str | None = None,
        svid_dir: str | Path | None = None,
        *,
        identity: Identity | None = None,
        holder_key: EcSigner | None = None,
        issuer: str | None = None,
        clock: Clock = system_clock,
        ids: Ids = uuid7,
    ) -> None:
        """Make a client. What is not given comes from the environment, as `Endpoint.of` says.

        With a `holder_key`, credentials are bound to it, unless their resource binds them to TLS; proofs of it name
        the broker by its `issuer` URL, from CREDBROKER_ISSUER if not given.

        Raises:
            Refusal: INVALID_ARGUMENT, if something of this is set nowhere, or two identities are given.
        """
        self._endpoint = Endpoint.of(address, svid_dir, identity)
        self._prover = None if holder_key is None else Prover(holder_key, clock, ids)
        self._issuer = "" if holder_key is None else issuer_of(issuer)
        self._connection: Connection | None = None
        self._clock = clock
        self._ids = ids

    async def __aenter__(self) -> Self:
        """Open the connection.

        Raises:
            Refusal: IDENTITY_MISSING, IDENTITY_EXPIRED or IDENTITY_INVALID.
        """
        self._connection = await Connection.open(self._endpoint)
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.close()

    @asynccontextmanager
    async def task(self, declaration: TaskDeclaration) -> AsyncIterator[Task]:
        """Declare a task for the time of a block. It ends with it: completed, failed or cancelled as the block was.

        Raises:
            Refusal: as in protos/broker/v1/orchestrator_service.proto. At the end of a block that went well, too: then
                the task may live until its deadline.
        """
        task = await self.create_task(declaration)
        try:
            yield task
        except BaseException as error:
            outcome = TaskState.CANCELLED if isinstance(error, asyncio.CancelledError) else TaskState.FAILED
            with contextlib.suppress(Refusal):  # the block's own exception comes first
                await self._end(task.id, outcome)
            raise
        await self._end(task.id, TaskState.COMPLETED)

    @asynccontextmanager
    async def credential(
        self,
        task_id: str,
        resource: str,
        grants: Sequence[Grant],
        *,
        lifetime: timedelta | None = None,
        explanation: str = "",
    ) -> AsyncIterator[Credential]:
        """Hold a credential for the time of a block: renewed while it runs, released at its end.

        Raises:
            Refusal: as in protos/broker/v1/agent_service.proto.
        """
        credential = await self.issue(task_id, resource, grants, lifetime=lifetime, explanation=explanation)
        renewal = asyncio.create_task(self._keep_renewed(credential, lifetime))
        try:
            yield credential
        finally:
            renewal.cancel()
            await asyncio.shield(self._release_quietly(credential.lease_id))

    async def create_task(self, declaration: TaskDeclaration) -> Task:
        """Declare a task that outlives this call; end it with `end_task`."""
        request = orchestrator_pb.CreateTaskRequest(
            owner=declaration.owner,
            purpose=declaration.purpose,
            environment=declaration.environment.value,
            agents=declaration.agents,
            tools=resources_to_wire(declaration.tools),
            deadline=instant_to_wire(self._clock() + declaration.lifetime),
            risk_threshold=declaration.risk_threshold,
            request_id=self._ids(),
        )
        return task_from_wire(await self._call(lambda: self._orchestrator().CreateTask(request, timeout=_CALL_SECONDS)))

    async def end_task(self, task_id: str, outcome: TaskState, *, barrier: bool = False) -> int:
        """End a task; give the ledger index of the rule that killed its credentials."""
        request = orchestrator_pb.EndTaskRequest(task_id=task_id, outcome=task_state_to_wire(outcome), barrier=barrier)
        timeout = _CALL_SECONDS * (3 if barrier else 1)
        return (await self._call(lambda: self._orchestrator().EndTask(request, timeout=timeout))).index

    async def issue(
        self,
        task_id: str,
        resource: str,
        grants: Sequence[Grant],
        *,
        lifetime: timedelta | None = None,
        explanation: str = "",
    ) -> Credential:
        """Get a credential that nobody renews or releases for you."""
        request = agent_pb.IssueCredentialRequest(
            task_id=task_id,
            resource=resource,
            grants=grants_to_wire(grants),
            lifetime=None if lifetime is None else duration_to_wire(lifetime),
            request_id=self._ids(),
            explanation=explanation,
        )
        answer = await self._call(
            lambda: self._agent().IssueCredential(
                request, timeout=_CALL_SECONDS, metadata=self._proof("IssueCredential")
            )
        )
        return Credential(
            lease_id=answer.lease.lease_id,
            resource=resource,
            token=Secret(answer.token),
            expires_at=instant_from_wire(answer.lease.expire_time, "lease.expire_time"),
            prover=self._prover if answer.lease.binding == lease_pb2.BINDING_DPOP else None,
        )

    async def renew(self, credential: Credential, *, lifetime: timedelta | None = None) -> None:
        """Renew a credential in place."""
        request = agent_pb.RenewCredentialRequest(
            lease_id=credential.lease_id,
            lifetime=None if lifetime is None else duration_to_wire(lifetime),
            request_id=self._ids(),
        )
        answer = await self._call(
            lambda: self._agent().RenewCredential(
                request, timeout=_CALL_SECONDS, metadata=self._proof("RenewCredential")
            )
        )
        credential.token = Secret(answer.token)
        credential.expires_at = instant_from_wire(answer.lease.expire_time, "lease.expire_time")

    async def release(self, lease_id: str) -> int:
        """Give a credential back; give the ledger index of the rule that ended it."""
        request = agent_pb.ReleaseCredentialRequest(lease_id=lease_id)
        return (await self._call(lambda: self._agent().ReleaseCredential(request, timeout=_CALL_SECONDS))).index

    async def _keep_renewed(self, credential: Credential, lifetime: timedelta | None) -> None:
        """Renew at two thirds of each token's life. What cannot be renewed is left to expire."""
        while True:
            left = (credential.expires_at - self._clock()) / timedelta(seconds=1)
            await asyncio.sleep(max(_RETRY_SECONDS, left * _RENEW_AFTER))
            try:
                await self.renew(credential, lifetime=lifetime)
            except Refusal as refusal:
                if refusal.reason in _GIVE_UP:
                    return

    async def _end(self, task_id: str, outcome: TaskState) -> None:
        """End a task, also when the block was cancelled; one that has ended in the block stays as it is."""
        try:
            await asyncio.shield(self.end_task(task_id, outcome))
        except Refusal as refusal:
            if refusal.reason is not Reason.TASK_NOT_ACTIVE:
                raise

    async def _release_quietly(self, lease_id: str) -> None:
        """Release a lease; it expires by itself if the broker cannot be reached."""
        with contextlib.suppress(Refusal):
            await self.release(lease_id)

    async def _call(self, send: Callable[[], Awaitable[T]]) -> T:
        """Send a call; once more if the broker could not be reached, which the request id makes safe."""
        for attempt in (1, 2):
            try:
                return await send()
            except grpc.aio.AioRpcError as error:
                refusal = refusal_from(error)
                if attempt == 2 or refusal.reason is not Reason.UNAVAILABLE:  # noqa: PLR2004
                    raise refusal from None  # the gRPC error's text repeats the request's metadata
                await asyncio.sleep(_RETRY_SECONDS)
        raise AssertionError  # the second attempt returns or raises

    def _proof(self, method: str) -> Metadata:
        """Make a proof for one attempt at a call, as the broker takes each once."""
        if self._prover is None:
            return ()
        return (("dpop", self._prover.prove("POST", f"{self._issuer}/{_AGENT_SERVICE}/{method}")),)

    def _agent(self) -> agent_service_pb2_grpc.AgentServiceAsyncStub:
        return agent_service_pb2_grpc.AgentServiceStub(self._channel())

    def _orchestrator(self) -> orchestrator_service_pb2_grpc.OrchestratorServiceAsyncStub:
        return orchestrator_service_pb2_grpc.OrchestratorServiceStub(self._channel())

    def _channel(self) -> grpc.aio.Channel:
        if self._connection is None:
            msg = "use the client as `async with Client() as client`"
            raise RuntimeError(msg)
        return self._connection.channel()
