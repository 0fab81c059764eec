"""Tasks and credentials live as long as their blocks, and a lost answer makes nothing happen twice."""

import asyncio
import copy
import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from broker.credential import dpop
from broker.credential.keys import EcSigner
from broker.model.clock import system_clock
from broker.model.errors import Reason, Refusal
from broker.model.grant import Grant, ResourceGrants
from broker.model.task import Environment, TaskState
from broker.sdk import client as client_module
from broker.sdk.client import Client, Credential, TaskDeclaration
from broker.sdk.connection import Endpoint
from broker.sdk.secret import Secret
from broker.sdk.sync import SyncClient
from broker.v1 import agent_service_pb2 as agent_pb
from broker.v1 import agent_service_pb2_grpc, lease_pb2, orchestrator_service_pb2_grpc, task_pb2
from broker.v1 import orchestrator_service_pb2 as orchestrator_pb
from broker.wire.tasks import task_state_from_wire
from broker.wire.times import instant_to_wire
from tests.fakes import abort, authority, eventually, server_credentials, write_svid

REPO = "https://repo.tools.example"
GRANTS = [Grant("read_file")]
DECLARATION = TaskDeclaration(
    owner="alice",
    purpose="triage",
    environment=Environment.DEV,
    agents=["spiffe://example.org/agent/researcher"],
    tools=[ResourceGrants(REPO, (Grant("read_file"),))],
    lifetime=timedelta(hours=1),
)


@dataclass
class FakeDesk:
    """Answers agents and orchestrators, and remembers what it was asked. `refusals` are given first, one per call."""

    lifetime: timedelta = timedelta(minutes=5)
    calls: list[str] = field(default_factory=list)
    request_ids: list[str] = field(default_factory=list)
    proofs: list[str] = field(default_factory=list)
    outcomes: list[TaskState] = field(default_factory=list)
    refusals: dict[str, list[Refusal]] = field(default_factory=dict)

    async def note(self, name: str, request: Any, context: Any) -> None:
        self.calls.append(name)
        self.request_ids.append(getattr(request, "request_id", ""))
        self.proofs += [value for name, value in context.invocation_metadata() if name == "dpop"]
        waiting = self.refusals.get(name)
        if waiting:
            await abort(context, waiting.pop(0))

    def lease(self) -> lease_pb2.Lease:
        return lease_pb2.Lease(lease_id="l-1", expire_time=instant_to_wire(system_clock() + self.lifetime))


class Agents(agent_service_pb2_grpc.AgentServiceServicer):
    def __init__(self, desk: FakeDesk) -> None:
        self.desk = desk

    async def IssueCredential(self, request: Any, context: Any) -> agent_pb.IssueCredentialResponse:  # noqa: N802
        await self.desk.note("issue", request, context)
        return agent_pb.IssueCredentialResponse(token="token-0", lease=self.desk.lease())

    async def RenewCredential(self, request: Any, context: Any) -> agent_pb.RenewCredentialResponse:  # noqa: N802
        await self.desk.note("renew", request, context)
        token = f"token-{self.desk.calls.count('renew')}"
        return agent_pb.RenewCredentialResponse(token=token, lease=self.desk.lease())

    async def ReleaseCredential(self, request: Any, context: Any) -> agent_pb.ReleaseCredentialResponse:  # noqa: N802
        await self.desk.note("release", request, context)
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


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> FakeDesk:
    monkeypatch.setattr(client_module, "_RETRY_SECONDS", 0.05)
    return FakeDesk()


@pytest.fixture
async def client(desk: FakeDesk, tmp_path: Path) -> AsyncIterator[Client]:
    async with serving(desk, tmp_path) as endpoint, Client(endpoint.address, endpoint.svid_dir) as client:
        yield client


def unavailable() -> Refusal:
    return Refusal(Reason.UNAVAILABLE, "not now")


async def test_a_task_ends_completed_with_its_block(client: Client, desk: FakeDesk) -> None:
    async with client.task(DECLARATION) as task:
        assert task.id == "t-1"
        assert desk.outcomes == []
    assert desk.outcomes == [TaskState.COMPLETED]


async def test_a_task_ends_failed_when_its_block_fails(client: Client, desk: FakeDesk) -> None:
    with pytest.raises(ZeroDivisionError):
        async with client.task(DECLARATION):
            _ = 1 // 0
    assert desk.outcomes == [TaskState.FAILED]


async def test_a_task_ends_cancelled_when_its_block_is_cancelled(client: Client, desk: FakeDesk) -> None:
    inside = asyncio.Event()

    async def work() -> None:
        async with client.task(DECLARATION):
            inside.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert desk.outcomes == [TaskState.CANCELLED]


async def test_a_task_that_could_not_be_ended_is_not_passed_over(client: Client, desk: FakeDesk) -> None:
    desk.refusals["end"] = [Refusal(Reason.LEDGER_UNAVAILABLE, "the disk is full")]
    with pytest.raises(Refusal) as refused:
        async with client.task(DECLARATION):
            pass
    assert refused.value.reason is Reason.LEDGER_UNAVAILABLE


async def test_the_blocks_own_exception_comes_first(client: Client, desk: FakeDesk) -> None:
    desk.refusals = {"end": [unavailable(), unavailable()], "release": [unavailable(), unavailable()]}
    with pytest.raises(ZeroDivisionError):
        async with client.task(DECLARATION) as task, client.credential(task.id, REPO, GRANTS):
            _ = 1 // 0


async def test_a_task_ended_within_its_block_stays_as_it_is(client: Client, desk: FakeDesk) -> None:
    desk.refusals["end"] = [Refusal(Reason.TASK_NOT_ACTIVE, "the task has ended")]
    async with client.task(DECLARATION):
        pass
    assert desk.outcomes == []


async def test_a_credential_is_released_with_its_block(client: Client, desk: FakeDesk) -> None:
    async with client.credential("t-1", REPO, GRANTS) as credential:
        assert credential.token.reveal() == "token-0"
    assert desk.calls == ["issue", "release"]


async def test_a_failed_release_does_not_fail_a_block_that_went_well(client: Client, desk: FakeDesk) -> None:
    desk.refusals["release"] = [unavailable(), unavailable()]
    async with client.credential("t-1", REPO, GRANTS):
        pass
    assert desk.calls == ["issue", "release", "release"]


async def test_a_credential_is_renewed_before_it_expires(client: Client, desk: FakeDesk) -> None:
    desk.lifetime = timedelta(milliseconds=300)
    async with client.credential("t-1", REPO, GRANTS) as credential:
        for number in (1, 2, 3):
            await eventually(lambda number=number: credential.token.reveal() == f"token-{number}")
            assert credential.expires_at > system_clock()
    renewals = desk.calls.count("renew")
    await asyncio.sleep(0.4)
    assert desk.calls.count("renew") == renewals  # nothing goes on after the block


async def test_a_renewal_that_fails_is_tried_again(client: Client, desk: FakeDesk) -> None:
    desk.lifetime = timedelta(milliseconds=300)
    desk.refusals["renew"] = [unavailable(), unavailable(), Refusal(Reason.LOCKED, "a lock stands in the way")]
    async with client.credential("t-1", REPO, GRANTS) as credential:
        await eventually(lambda: credential.token.reveal() != "token-0")


@pytest.mark.parametrize("reason", [Reason.LEASE_NOT_LIVE, Reason.TASK_NOT_ACTIVE, Reason.LIFETIME_EXHAUSTED])
async def test_what_cannot_be_renewed_is_let_go(client: Client, desk: FakeDesk, reason: Reason) -> None:
    desk.lifetime = timedelta(milliseconds=100)
    desk.refusals["renew"] = [Refusal(reason, "no more")]
    async with client.credential("t-1", REPO, GRANTS):
        await eventually(lambda: "renew" in desk.calls)
        await asyncio.sleep(0.3)
    assert desk.calls.count("renew") == 1


async def test_a_lost_answer_is_asked_for_once_more_under_the_same_id(client: Client, desk: FakeDesk) -> None:
    desk.refusals["issue"] = [unavailable()]
    await client.issue("t-1", REPO, GRANTS)
    assert desk.calls == ["issue", "issue"]
    assert desk.request_ids[0] == desk.request_ids[1] != ""
    await client.issue("t-1", REPO, GRANTS)
    assert desk.request_ids[2] != desk.request_ids[0]


async def test_a_second_failure_is_raised_and_so_is_any_other_reason_at_once(client: Client, desk: FakeDesk) -> None:
    desk.refusals["issue"] = [unavailable(), unavailable(), Refusal(Reason.POLICY_DENIED, "policy does not permit it")]
    for reason in (Reason.UNAVAILABLE, Reason.POLICY_DENIED):
        with pytest.raises(Refusal) as refused:
            await client.issue("t-1", REPO, GRANTS)
        assert refused.value.reason is reason
    assert desk.calls == ["issue"] * 3


async def test_each_attempt_has_a_proof_of_its_own(desk: FakeDesk, tmp_path: Path) -> None:
    desk.refusals = {"issue": [unavailable()], "renew": [unavailable()]}
    key, issuer = EcSigner.generate(), "https://broker.example"
    async with (
        serving(desk, tmp_path) as endpoint,
        Client(endpoint.address, endpoint.svid_dir, holder_key=key, issuer=issuer) as client,
    ):
        await client.renew(await client.issue("t-1", REPO, GRANTS))
    assert desk.calls == ["issue", "issue", "renew", "renew"]
    proven = []
    for proof, rpc in zip(desk.proofs, ["IssueCredential"] * 2 + ["RenewCredential"] * 2, strict=True):
        request = dpop.Request(method="POST", url=f"{issuer}/broker.v1.AgentService/{rpc}")
        proven.append(dpop.verify(proof, request, system_clock()))
    assert {found.thumbprint for found in proven} == {key.kid}
    assert len({found.jti for found in proven}) == 4


async def test_a_client_that_was_not_entered_says_so(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await Client("localhost:1", tmp_path).release("l-1")


def test_a_secret_shows_itself_to_reveal_alone() -> None:
    secret = Secret("eyJ.token")
    credential = Credential(lease_id="l-1", resource=REPO, token=secret, expires_at=system_clock())
    for shown in (
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret:>40}",
        repr(credential),
        repr([secret]),
        "%s" % secret,  # noqa: UP031 (that way, too)
    ):
        assert "eyJ" not in shown
    assert secret.reveal() == "eyJ.token"


@pytest.mark.parametrize("leak", [pickle.dumps, copy.copy, copy.deepcopy, vars])
def test_a_secret_is_neither_pickled_nor_copied(leak: Callable[[object], object]) -> None:
    with pytest.raises(TypeError):
        leak(Secret("eyJ.token"))


@pytest.fixture
def endpoint_elsewhere(desk: FakeDesk, tmp_path: Path) -> Iterator[Endpoint]:
    """A fake on an event loop of its own, for tests that have none."""
    loop = asyncio.new_event_loop()
    ended = asyncio.Event()
    started: asyncio.Queue[Endpoint] = asyncio.Queue()

    async def main() -> None:
        async with serving(desk, tmp_path) as endpoint:
            started.put_nowait(endpoint)
            await ended.wait()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(loop.run_until_complete, main())
        yield asyncio.run_coroutine_threadsafe(started.get(), loop).result()
        loop.call_soon_threadsafe(ended.set)
        running.result()
        loop.close()


def test_threads_have_the_same_blocks(desk: FakeDesk, endpoint_elsewhere: Endpoint) -> None:
    with SyncClient(endpoint_elsewhere.address, endpoint_elsewhere.svid_dir) as client:
        with client.task(DECLARATION) as task, client.credential(task.id, REPO, GRANTS) as credential:
            assert credential.token.reveal() == "token-0"
        assert desk.calls == ["create", "issue", "release", "end"]
        assert desk.outcomes == [TaskState.COMPLETED]

        task = client.create_task(DECLARATION)
        issued = client.issue(task.id, REPO, GRANTS)
        client.renew(issued)
        assert issued.token.reveal() == "token-1"
        assert (client.release(issued.lease_id), client.end_task(task.id, TaskState.FAILED)) == (7, 9)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_threads_have_the_same_ends(desk: FakeDesk, endpoint_elsewhere: Endpoint, error: type[BaseException]) -> None:
    with (
        SyncClient(endpoint_elsewhere.address, endpoint_elsewhere.svid_dir) as client,
        pytest.raises(error),
        client.task(DECLARATION) as task,
        client.credential(task.id, REPO, GRANTS),
    ):
        raise error
    assert desk.calls == ["create", "issue", "release", "end"]
    assert desk.outcomes == [TaskState.FAILED]


def test_a_client_of_threads_that_cannot_begin_leaves_no_thread(tmp_path: Path) -> None:
    client = SyncClient("localhost:1", tmp_path)
    with pytest.raises(Refusal) as refused, client:
        pytest.fail("the block must not run")
    assert refused.value.reason is Reason.IDENTITY_MISSING
    with pytest.raises(RuntimeError, match="with SyncClient"):
        client.release("l-1")
