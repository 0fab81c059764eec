"""Tasks and credentials live as long as their blocks, and a lost answer makes nothing happen twice."""

import asyncio
import copy
import pickle
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from inspect import signature
from pathlib import Path

import pytest

from broker.credential import dpop
from broker.credential.keys import EcSigner
from broker.model.errors import Reason, Refusal
from broker.model.grant import Grant, ResourceGrants
from broker.model.task import Declaration, Environment, TaskState
from broker.sdk.client import keeping
from broker.sdk.client.client import Client
from broker.sdk.client.credential import Credential
from broker.sdk.client.keeping import Event
from broker.sdk.client.secret import Secret
from broker.sdk.client.sync import SyncClient
from broker.sdk.connect.endpoint import Endpoint
from broker.system import system_clock
from tests.support.desk import FakeDesk, serving
from tests.support.fakes import eventually

REPO = "https://repo.tools.example"
GRANTS = [Grant("read_file")]
DECLARATION = Declaration(
    owner="alice",
    purpose="triage",
    environment=Environment.DEV,
    agents=["spiffe://example.org/agent/researcher"],
    tools=[ResourceGrants(REPO, (Grant("read_file"),))],
    deadline=timedelta(hours=1),
)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> FakeDesk:
    monkeypatch.setattr(keeping, "_SHORTEST_WAIT", 0.05)
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
    desk.refused_always["end"] = Refusal(Reason.LEDGER_UNAVAILABLE, "the disk is full")
    client._timeout = 0.5
    with pytest.raises(Refusal) as refused:
        async with client.task(DECLARATION):
            pass
    assert refused.value.reason is Reason.LEDGER_UNAVAILABLE


async def test_the_blocks_own_exception_comes_first(client: Client, desk: FakeDesk) -> None:
    desk.refused_always = {"end": unavailable(), "release": unavailable()}
    client._timeout = 2.0
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
        assert credential.token.reveal() == "token-1.0"
    assert desk.calls == ["issue", "release"]


async def test_a_credential_is_released_when_its_block_is_cancelled_as_it_ends(client: Client, desk: FakeDesk) -> None:
    async def work() -> None:
        async with client.credential("t-1", REPO, GRANTS):
            asyncio.get_running_loop().call_soon(worker.cancel)  # comes when the block waits for its renewals to end

    worker = asyncio.create_task(work())
    await asyncio.wait([worker])
    assert worker.cancelled()
    await eventually(lambda: desk.calls == ["issue", "release"])


async def test_a_failed_release_does_not_fail_a_block_that_went_well_and_is_told(
    client: Client, desk: FakeDesk
) -> None:
    desk.refused_always["release"] = unavailable()
    told: list[Event] = []
    async with client.credential("t-1", REPO, GRANTS, tell=lambda _credential, event, _error: told.append(event)):
        client._timeout = 0.5
    assert desk.calls[:3] == ["issue", "release", "release"]
    assert told == [Event.NOT_RELEASED]


async def test_a_credential_is_renewed_before_it_expires(client: Client, desk: FakeDesk) -> None:
    desk.lifetime = timedelta(milliseconds=300)
    async with client.credential("t-1", REPO, GRANTS) as credential:
        for number in (1, 2, 3):
            await eventually(lambda number=number: credential.token.reveal() == f"token-1.{number}")
            assert credential.expires_at > system_clock()
    renewals = desk.calls.count("renew")
    await asyncio.sleep(0.4)
    assert desk.calls.count("renew") == renewals  # nothing goes on after the block


async def test_a_renewal_that_fails_is_tried_again(client: Client, desk: FakeDesk) -> None:
    desk.lifetime = timedelta(milliseconds=300)
    desk.refusals["renew"] = [unavailable(), unavailable(), Refusal(Reason.LOCKED, "a lock stands in the way")]
    async with client.credential("t-1", REPO, GRANTS) as credential:
        await eventually(lambda: credential.token.reveal() != "token-1.0")


@pytest.mark.parametrize("reason", [Reason.UNAVAILABLE, Reason.LEDGER_UNAVAILABLE])
async def test_what_passes_is_asked_for_until_it_has_under_the_same_id(
    client: Client, desk: FakeDesk, reason: Reason
) -> None:
    desk.refusals = {name: [Refusal(reason, "not now")] * 3 for name in ("create", "issue", "renew", "release", "end")}
    task = await client.create_task(DECLARATION)
    credential = await client.issue("t-1", REPO, GRANTS)
    await client.renew(credential)
    await client.release(credential.lease_id)
    await client.end_task(task.id, TaskState.COMPLETED, barrier=True)
    assert desk.calls == [name for name in ("create", "issue", "renew", "release", "end") for _ in range(4)]
    for start in (0, 4, 8):
        assert len(set(desk.request_ids[start : start + 4])) == 1
        assert desk.request_ids[start]
    assert len({desk.request_ids[start] for start in (0, 4, 8)}) == 3


async def test_in_the_end_a_failure_is_raised_and_any_other_reason_at_once(client: Client, desk: FakeDesk) -> None:
    desk.refusals["issue"] = [Refusal(Reason.POLICY_DENIED, "policy does not permit it")]
    desk.refused_always["issue"] = unavailable()
    with pytest.raises(Refusal) as refused:
        await client.issue("t-1", REPO, GRANTS)
    assert (refused.value.reason, desk.calls) == (Reason.POLICY_DENIED, ["issue"])
    client._timeout = 0.5
    with pytest.raises(Refusal) as refused:
        await client.issue("t-1", REPO, GRANTS)
    assert refused.value.reason is Reason.UNAVAILABLE


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
        request = dpop.ProvenRequest(method="POST", url=f"{issuer}/broker.v1.AgentService/{rpc}")
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


def test_threads_have_the_same_blocks(desk: FakeDesk, endpoint_elsewhere: Endpoint) -> None:
    with SyncClient(endpoint_elsewhere.address, endpoint_elsewhere.svid_dir) as client:
        with client.task(DECLARATION) as task, client.credential(task.id, REPO, GRANTS) as credential:
            assert credential.token.reveal() == "token-1.0"
        assert desk.calls == ["create", "issue", "release", "end"]
        assert desk.outcomes == [TaskState.COMPLETED]

        task = client.create_task(DECLARATION)
        issued = client.issue(task.id, REPO, GRANTS)
        client.renew(issued)
        assert issued.token.reveal() == "token-2.1"
        assert (client.release(issued.lease_id), client.end_task(task.id, TaskState.FAILED)) == (7, 9)


@pytest.mark.parametrize("name", ["task", "credential", "create_task", "end_task", "issue", "renew", "release"])
def test_threads_can_ask_for_all_that_others_can(name: str) -> None:
    assert [*signature(getattr(SyncClient, name)).parameters] == [*signature(getattr(Client, name)).parameters]


def test_threads_can_explain_themselves(desk: FakeDesk, endpoint_elsewhere: Endpoint) -> None:
    with SyncClient(endpoint_elsewhere.address, endpoint_elsewhere.svid_dir) as client:
        client.issue("t-1", REPO, GRANTS, explanation="the issue asks for it")
        with client.credential("t-1", REPO, GRANTS, explanation="and so does its reporter"):
            pass
    assert desk.explanations == ["the issue asks for it", "and so does its reporter"]


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
