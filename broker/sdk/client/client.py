"""The client for agents and orchestrators: tasks and credentials as blocks, at whose end they are dead.

An orchestrator writes ``async with Client() as client, client.task(declaration) as task: …``, an agent
``async with client.credential(task_id, resource, [Grant("read_file")]) as credential: …`` and in it, for each call,
``credential.headers("POST", url)``.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

import grpc

from broker.credential.keys import EcSigner
from broker.model.clock import Clock, Ids
from broker.model.errors import Reason, Refusal
from broker.model.grant import Grant
from broker.model.task import Declaration, Task, TaskState
from broker.sdk.client.credential import Credential
from broker.sdk.client.keeping import CredentialRequest, Event, Keeper, Tell, tell_log
from broker.sdk.client.possession import Prover, issuer_of
from broker.sdk.client.secret import Secret
from broker.sdk.connect.answers import Send, answered
from broker.sdk.connect.connection import Connection
from broker.sdk.connect.endpoint import Endpoint
from broker.sdk.connect.identity import Identity
from broker.system import system_clock, uuid7
from broker.v1 import agent_service_pb2 as agent_pb
from broker.v1 import agent_service_pb2_grpc, lease_pb2, orchestrator_service_pb2_grpc
from broker.v1 import orchestrator_service_pb2 as orchestrator_pb
from broker.wire.grants import grants_to_wire
from broker.wire.tasks import declaration_to_wire, task_from_wire, task_state_to_wire
from broker.wire.times import duration_to_wire, instant_from_wire

T = TypeVar("T")
Metadata = tuple[tuple[str, str], ...]

_RELEASE_SECONDS = 10.0  # nobody waits for long at the end of a block
_AGENT_SERVICE = agent_pb.DESCRIPTOR.services_by_name["AgentService"].full_name


class Client:
    """Calls a broker, as the workload whose X.509-SVID is in a folder, or by another `identity`.

    A call whose answer got lost, or that the broker cannot do just now, is sent again under the same request id, so
    it happens once: with pauses between, until `timeout` is over.
    """

    def __init__(
        self,
        address: str | None = None,
        svid_dir: str | Path | None = None,
        *,
        identity: Identity | None = None,
        holder_key: EcSigner | None = None,
        issuer: str | None = None,
        timeout: float = 30.0,
        clock: Clock = system_clock,
        ids: Ids = uuid7,
    ) -> None:
        """Make a client. What is not given comes from the environment, as `Endpoint.of` says.

        With a `holder_key`, credentials are bound to it, unless their resource binds them to TLS; proofs of it name
        the broker by its `issuer` URL, from CREDBROKER_ISSUER if not given. `timeout`, in seconds, is for a call with
        all its repetitions.

        Raises:
            Refusal: INVALID_ARGUMENT, if something of this is set nowhere, or two identities are given.
        """
        self._endpoint = Endpoint.of(address, svid_dir, identity)
        self._prover = None if holder_key is None else Prover(holder_key, clock, ids)
        self._issuer = "" if holder_key is None else issuer_of(issuer)
        self._connection: Connection | None = None
        self._endings: set[asyncio.Task[Any]] = set()  # what goes on though nobody may wait for it any more
        self._timeout = timeout
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
        """Close the connection, after what was cancelled in its beginning has ended too."""
        if self._endings:
            _ended, late = await asyncio.wait(self._endings, timeout=_RELEASE_SECONDS)
            for ending in late:
                ending.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    @asynccontextmanager
    async def task(self, declaration: Declaration) -> AsyncIterator[Task]:
        """Declare a task for the time of a block. It ends with it: completed, failed or cancelled as the block was.

        Raises:
            Refusal: as in protos/broker/v1/orchestrator_service.proto. At the end of a block that went well, too: then
                the task may live until its deadline.
        """
        task = await self._begun(
            self.create_task(declaration), lambda unwanted: self._end(unwanted.id, TaskState.CANCELLED)
        )
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
        tell: Tell = tell_log,
    ) -> AsyncIterator[Credential]:
        """Hold a credential for the time of a block: kept good while it runs, released at its end.

        It is renewed in time. If that could not be and it has expired, or its lease can live no longer, another lease
        takes its place, as long as the task lives; but none does after a revocation. `tell` hears what becomes of it.

        Raises:
            Refusal: as in protos/broker/v1/agent_service.proto.
        """
        wanted = CredentialRequest(
            task_id=task_id, resource=resource, grants=tuple(grants), lifetime=lifetime, explanation=explanation
        )
        credential = await self._begun(
            self._issue(wanted, self._ids()), lambda unwanted: self._release_all(unwanted, "", tell)
        )
        keeper = Keeper(self, credential, wanted, self._clock, self._ids, tell)
        keeping = asyncio.create_task(keeper.run())

        async def release() -> None:
            await asyncio.wait([keeping])  # it may be at another lease
            await self._release_all(credential, keeper.former, tell)

        try:
            yield credential
        finally:
            keeping.cancel()
            await asyncio.shield(self._ending(release()))

    async def create_task(self, declaration: Declaration) -> Task:
        """Declare a task that outlives this call; end it with `end_task`."""
        request = declaration_to_wire(declaration, self._clock(), self._ids())
        answer = await self._call(lambda seconds: self._orchestrator().CreateTask(request, timeout=seconds))
        return task_from_wire(answer)

    async def end_task(self, task_id: str, outcome: TaskState, *, barrier: bool = False) -> int:
        """End a task. Return the ledger index of the rule that killed its credentials."""
        request = orchestrator_pb.EndTaskRequest(task_id=task_id, outcome=task_state_to_wire(outcome), barrier=barrier)
        answer = await self._call(
            lambda seconds: self._orchestrator().EndTask(request, timeout=seconds), barrier=barrier
        )
        return answer.index

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
        wanted = CredentialRequest(
            task_id=task_id, resource=resource, grants=tuple(grants), lifetime=lifetime, explanation=explanation
        )
        return await self._issue(wanted, self._ids())

    async def issue_again(self, credential: Credential, wanted: CredentialRequest, request_id: str) -> None:
        """Put a new lease and its token in the place of what a credential was."""
        fresh = await self._issue(wanted, request_id)
        credential.lease_id, credential.token = fresh.lease_id, fresh.token
        credential.expires_at, credential.prover = fresh.expires_at, fresh.prover
        credential.certificate = fresh.certificate

    def can_present(self, credential: Credential) -> bool:
        """Report whether the certificate that a credential may be bound to is still the one that we show."""
        if not credential.certificate:
            return True
        try:
            return self._opened().certificate() in ("", credential.certificate)
        except Refusal:
            return True  # we have none: there is nothing that it could be bound to instead

    async def renew(self, credential: Credential, *, lifetime: timedelta | None = None) -> None:
        """Renew a credential in place."""
        request = agent_pb.RenewCredentialRequest(
            lease_id=credential.lease_id,
            lifetime=None if lifetime is None else duration_to_wire(lifetime),
            request_id=self._ids(),
        )
        answer = await self._call(
            lambda seconds: self._agent().RenewCredential(
                request, timeout=seconds, metadata=self._proof("RenewCredential")
            )
        )
        credential.token = Secret(answer.token)
        credential.expires_at = instant_from_wire(answer.lease.expire_time, "lease.expire_time")

    async def release(self, lease_id: str) -> int:
        """Release a credential. Return the ledger index of the rule that ended it."""
        return await self._release(lease_id)

    async def _release(self, lease_id: str, *, at_most: float = math.inf) -> int:
        request = agent_pb.ReleaseCredentialRequest(lease_id=lease_id)
        answer = await self._call(
            lambda seconds: self._agent().ReleaseCredential(request, timeout=seconds), at_most=at_most
        )
        return answer.index

    async def _issue(self, wanted: CredentialRequest, request_id: str) -> Credential:
        request = agent_pb.IssueCredentialRequest(
            task_id=wanted.task_id,
            resource=wanted.resource,
            grants=grants_to_wire(wanted.grants),
            lifetime=None if wanted.lifetime is None else duration_to_wire(wanted.lifetime),
            request_id=request_id,
            explanation=wanted.explanation,
        )
        answer = await self._call(
            lambda seconds: self._agent().IssueCredential(
                request, timeout=seconds, metadata=self._proof("IssueCredential")
            )
        )
        return Credential(
            lease_id=answer.lease.lease_id,
            resource=wanted.resource,
            token=Secret(answer.token),
            expires_at=instant_from_wire(answer.lease.expire_time, "lease.expire_time"),
            prover=self._prover if answer.lease.binding == lease_pb2.BINDING_DPOP else None,
            certificate=answer.lease.confirmation if answer.lease.binding == lease_pb2.BINDING_CERTIFICATE else "",
        )

    async def _begun(self, beginning: Coroutine[Any, Any, T], end: Callable[[T], Awaitable[None]]) -> T:
        """Return what begins. If that is cancelled it goes on, as the broker may be done with it, and `end` ends it."""
        begun = asyncio.create_task(beginning)

        async def undo() -> None:
            with contextlib.suppress(Refusal):
                await end(await begun)

        try:
            return await asyncio.shield(begun)
        except asyncio.CancelledError:
            self._ending(undo())
            raise

    def _ending(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin what is to come to its end even if whoever waits for it is cancelled, and before the client closes."""
        ending = asyncio.create_task(coroutine)
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        return ending

    async def _end(self, task_id: str, outcome: TaskState) -> None:
        """End a task, also when the block was cancelled; one that has ended in the block stays as it is."""
        try:
            await asyncio.shield(self._ending(self.end_task(task_id, outcome)))
        except Refusal as refusal:
            if refusal.reason is not Reason.TASK_NOT_ACTIVE:
                raise

    async def _release_all(self, credential: Credential, former: str, tell: Tell) -> None:
        """Release what a block has held. Leases expire by themselves if the broker cannot be reached for a while."""
        try:
            for lease_id in (credential.lease_id, former):
                if lease_id:
                    await self._release(lease_id, at_most=_RELEASE_SECONDS)
        except Refusal as refusal:
            tell(credential, Event.NOT_RELEASED, refusal)

    async def _call(self, send: Send[T], *, barrier: bool = False, at_most: float = math.inf) -> T:
        """Send a call until it is answered, for the client's timeout, or for `at_most` so many seconds.

        With a `barrier` the broker waits for verifiers, so that a single answer may take half of that.
        """
        return await answered(self._opened(), send, min(self._timeout, at_most), barrier=barrier)

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
        return self._opened().channel()

    def _opened(self) -> Connection:
        if self._connection is None:
            msg = "use the client as `async with Client() as client`"
            raise RuntimeError(msg)
        return self._connection
