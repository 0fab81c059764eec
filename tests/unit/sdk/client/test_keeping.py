"""A credential that is kept comes back after whatever passes, and never after somebody has meant its end."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from broker.model.errors import Hints, Reason, Refusal
from broker.model.grant import Grant
from broker.sdk.client import keeping
from broker.sdk.client.client import Client
from broker.sdk.client.credential import Credential
from broker.sdk.client.keeping import CredentialRequest, Event, Keeper
from broker.sdk.client.secret import Secret
from broker.system import system_clock, uuid7
from tests.support.desk import FakeDesk, serving
from tests.support.fakes import eventually
from tests.support.world import START, ManualClock

REPO = "https://repo.tools.example"
GRANTS = [Grant("read_file")]
SOON = timedelta(milliseconds=300)


def expired() -> Refusal:
    return Refusal(Reason.LEASE_NOT_LIVE, "the lease is expired", Hints(lease_state="expired"))


def revoked() -> Refusal:
    return Refusal(Reason.LEASE_NOT_LIVE, "the lease is revoked", Hints(lease_state="revoked"))


def exhausted() -> Refusal:
    return Refusal(Reason.LIFETIME_EXHAUSTED, "less than a second is left of the caller's proof of identity")


class Told:
    """What a holder was told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.errors: list[Refusal | OSError] = []

    def __call__(self, _credential: Credential, event: Event, error: Refusal | OSError | None) -> None:
        self.events.append(event)
        self.errors += [error] if error is not None else []


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> FakeDesk:
    monkeypatch.setattr(keeping, "_SHORTEST_WAIT", 0.05)
    monkeypatch.setattr(keeping, "_LONGEST_WAIT", 0.2)
    return FakeDesk(lifetime=SOON)


@pytest.fixture
async def client(desk: FakeDesk, tmp_path: Path) -> AsyncIterator[Client]:
    async with serving(desk, tmp_path) as endpoint, Client(endpoint.address, endpoint.svid_dir) as client:
        yield client


async def test_one_that_has_merely_expired_is_issued_anew(client: Client, desk: FakeDesk) -> None:
    told = Told()
    desk.refusals["renew"] = [expired()]
    async with client.credential("t-1", REPO, GRANTS, tell=told) as credential:
        await eventually(lambda: credential.lease_id == "l-2")
        assert credential.token.reveal().startswith("token-2")
        assert credential.expires_at > system_clock()
        assert credential.ended is None
    assert told.events[0] is Event.REISSUED
    assert desk.released == ["l-2", "l-1"], "the one before may have lived"


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (revoked(), Reason.LEASE_NOT_LIVE),
        (Refusal(Reason.LEASE_NOT_LIVE, "from a broker that does not say which"), Reason.LEASE_NOT_LIVE),
        (Refusal(Reason.LEASE_NOT_FOUND, "there is no such lease"), Reason.LEASE_NOT_FOUND),
        (Refusal(Reason.TASK_NOT_ACTIVE, "the task has ended"), Reason.TASK_NOT_ACTIVE),
    ],
)
async def test_what_was_meant_to_end_is_let_go_and_told_once(
    client: Client, desk: FakeDesk, refusal: Refusal, reason: Reason
) -> None:
    told = Told()
    desk.refusals["renew"] = [refusal]
    async with client.credential("t-1", REPO, GRANTS, tell=told) as credential:
        await eventually(lambda: credential.ended is not None)
        await asyncio.sleep(0.5)
        assert credential.ended is not None
        assert credential.ended.reason is reason
    assert (desk.calls.count("renew"), desk.calls.count("issue")) == (1, 1)
    assert told.events == [Event.ENDED]


@pytest.mark.parametrize("ended", [Refusal(Reason.TASK_NOT_ACTIVE, "ended"), Refusal(Reason.TASK_NOT_FOUND, "gone")])
async def test_none_follows_once_the_task_is_over(client: Client, desk: FakeDesk, ended: Refusal) -> None:
    told = Told()
    desk.refused_always["renew"] = expired()
    async with client.credential("t-1", REPO, GRANTS, tell=told) as credential:
        desk.refused_always["issue"] = ended
        await eventually(lambda: credential.ended is not None)
    assert told.events == [Event.ENDED]


async def test_a_proof_that_is_short_is_waited_for(client: Client, desk: FakeDesk) -> None:
    told = Told()
    async with client.credential("t-1", REPO, GRANTS, tell=told) as credential:
        desk.refused_always = {"renew": exhausted(), "issue": exhausted()}
        await eventually(lambda: desk.calls.count("renew") >= 3)
        desk.refused_always = {"renew": expired()}  # the SVID is fresh, and the lease has expired meanwhile
        await eventually(lambda: credential.lease_id == "l-2")
    assert told.events[:2] == [Event.FAILING, Event.REISSUED]


async def test_a_lease_that_can_live_no_longer_is_followed_by_another_before_its_end(
    client: Client, desk: FakeDesk
) -> None:
    told = Told()
    desk.ends = system_clock() + timedelta(seconds=3)
    async with client.credential("t-1", REPO, GRANTS, tell=told) as credential:
        await eventually(lambda: desk.leases == 2)
        assert credential.expires_at > system_clock(), "in time"
        await eventually(lambda: told.events.count(Event.RENEWED) >= 2)
        assert desk.leases == 2, "one that gained nothing is enough: the task is about to end"
        desk.ends = None
        await eventually(lambda: credential.expires_at > system_clock())


async def test_a_lost_answer_leaves_no_second_lease_behind(client: Client, desk: FakeDesk) -> None:
    desk.refused_always["renew"] = expired()
    async with client.credential("t-1", REPO, GRANTS) as credential:
        client._timeout = 0.3
        desk.refused_always["issue"] = Refusal(Reason.UNAVAILABLE, "not now")
        await eventually(lambda: desk.calls.count("issue") >= 6)
        client._timeout = 30
        desk.refused_always.pop("issue")
        await eventually(lambda: credential.lease_id == "l-2")
    asked = [request_id for call, request_id in zip(desk.calls, desk.request_ids, strict=True) if call == "issue"]
    assert len(set(asked[1:6])) == 1, "one id for all attempts at the next lease"
    assert asked[0] != asked[1]


async def test_what_is_told_cannot_end_what_it_is_told_of(client: Client, desk: FakeDesk) -> None:
    def tell(_credential: Credential, _event: Event, _error: Refusal | OSError | None) -> None:
        raise ZeroDivisionError

    async with client.credential("t-1", REPO, GRANTS, tell=tell):
        await eventually(lambda: desk.calls.count("renew") >= 3)


async def test_a_token_that_cannot_be_handed_on_is_renewed_and_handed_on_again(client: Client, desk: FakeDesk) -> None:
    handed: list[str] = []
    told = Told()

    def tell(credential: Credential, event: Event, error: Refusal | OSError | None) -> None:
        told(credential, event, error)
        if error is None:
            if desk.calls.count("renew") < 3:
                raise OSError(28, "No space left on device")
            handed.append(credential.token.reveal())

    async with client.credential("t-1", REPO, GRANTS, tell=tell):
        await eventually(lambda: bool(handed))
    assert told.events.count(Event.FAILING) == 1


class Renewing:
    """An agent that notes when it is asked, by the event loop's clock."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    async def renew(self, credential: Credential, *, lifetime: timedelta | None = None) -> None:
        self.asked.append(asyncio.get_running_loop().time())
        credential.expires_at += timedelta(seconds=1)

    def can_present(self, credential: Credential) -> bool:
        return True

    async def issue_again(self, credential: Credential, wanted: CredentialRequest, request_id: str) -> None:
        raise AssertionError("it lives")


def token(seconds: float) -> Secret:
    claims = {"iat": 1_000_000, "exp": 1_000_000 + seconds}
    return Secret(f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.sig")


def keeper_of(agent: Renewing, clock: ManualClock, seconds: float) -> Keeper:
    ends = START + timedelta(seconds=seconds)
    credential = Credential(lease_id="l-1", resource=REPO, token=token(seconds), expires_at=ends)
    return Keeper(
        agent, credential, CredentialRequest(task_id="t-1", resource=REPO, grants=GRANTS), clock, uuid7, Told()
    )


@pytest.mark.parametrize("wrong", [timedelta(hours=1), timedelta(hours=-1), timedelta(0)])
async def test_a_wrong_clock_of_ours_makes_renewal_neither_late_nor_frequent(wrong: timedelta) -> None:
    agent = Renewing()
    keeping_it = asyncio.create_task(keeper_of(agent, ManualClock(START + wrong), 3).run())
    began = asyncio.get_running_loop().time()
    await eventually(lambda: len(agent.asked) == 2)
    keeping_it.cancel()
    assert agent.asked[0] - began >= 1.9
    assert agent.asked[1] - agent.asked[0] >= 1.9


async def test_time_that_passed_while_the_machine_slept_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_GLANCE_SECONDS", 0.05)
    agent, clock = Renewing(), ManualClock()
    keeping_it = asyncio.create_task(keeper_of(agent, clock, 3_600).run())
    await asyncio.sleep(0.2)
    assert not agent.asked
    clock.move(timedelta(minutes=41))
    await eventually(lambda: len(agent.asked) == 1)
    keeping_it.cancel()
