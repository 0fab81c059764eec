"""A call is asked of the next broker when one cannot be reached or cannot do it, and of none that is not a broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from broker.model.errors import Hints, Reason, Refusal
from broker.sandbox.certificates import Authority
from broker.sandbox.ports import free_port
from broker.sdk.connect import patience
from broker.sdk.connect.answers import answered
from broker.sdk.connect.connection import Connection, connect, connect_sync
from broker.sdk.connect.endpoint import Endpoint
from broker.sdk.verify.verifier import Verifier
from broker.sdk.verify.watching import watching
from broker.v1 import verifier_service_pb2 as pb
from broker.v1 import verifier_service_pb2_grpc as pb_grpc
from tests.support.fakes import FakeBroker, abort, authority, eventually, serving

RESOURCE = "https://repo.tools.example"
LONG = 60.0


class Unwilling(FakeBroker):
    """Refuses a key set as often as it is told, and says so."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal=refusal)

    async def GetKeySet(self, request: pb.GetKeySetRequest, context: object) -> pb.KeySet:  # noqa: N802 (gRPC's name)
        self.key_sets_given += 1
        assert self.refusal is not None
        await abort(context, self.refusal)
        raise AssertionError


class Stuck(FakeBroker):
    """Never answers."""

    async def GetKeySet(self, request: pb.GetKeySetRequest, context: object) -> pb.KeySet:  # noqa: N802 (gRPC's name)
        await asyncio.Event().wait()
        raise AssertionError


@dataclass
class Street:
    """Brokers beside each other, and what leads to all of them."""

    stack: AsyncExitStack
    folder: Path
    root: Authority

    async def opened(self, broker: FakeBroker) -> Endpoint:
        return await self.stack.enter_async_context(serving(broker, self.folder, self.root))

    async def connected(self, *addresses: str) -> Connection:
        """Connect to addresses, of which the first is in use first."""
        endpoint = await self.opened(FakeBroker())
        connection = await Connection.open(Endpoint.of(",".join(addresses), endpoint.svid_dir))
        self.stack.push_async_callback(connection.close)
        while connection.address != addresses[0]:
            connection.leave(connection.address, lost=False)
        return connection


@pytest.fixture
async def street(tmp_path: Path) -> AsyncIterator[Street]:
    async with AsyncExitStack() as stack:
        yield Street(stack, tmp_path, authority())


async def key_set(connection: Connection, seconds: float = LONG) -> pb.KeySet:
    return await answered(
        connection,
        lambda left: pb_grpc.VerifierServiceStub(connection.channel()).GetKeySet(pb.GetKeySetRequest(), timeout=left),
        seconds,
    )


async def test_a_broker_that_is_not_there_is_passed_over_and_the_next_is_kept_to(street: Street) -> None:
    broker = FakeBroker()
    address = (await street.opened(broker)).address
    connection = await street.connected(f"localhost:{free_port()}", address)
    for _ in range(3):
        assert (await key_set(connection)).jwks
        assert connection.address == address
    assert broker.key_sets_given == 3


async def test_many_calls_that_fail_at_once_go_on_to_one_broker(street: Street) -> None:
    broker, other = FakeBroker(), FakeBroker()
    addresses = [(await street.opened(each)).address for each in (broker, other)]
    connection = await street.connected(f"localhost:{free_port()}", *addresses)
    await asyncio.gather(*(key_set(connection) for _ in range(20)))
    assert (broker.key_sets_given, other.key_sets_given) == (20, 0)


async def test_who_is_called_has_a_certificate_of_that_name(street: Street) -> None:
    other, broker = FakeBroker(), FakeBroker()
    elsewhere = (await street.opened(other)).address.replace("localhost", "127.0.0.1")
    connection = await street.connected(elsewhere, (await street.opened(broker)).address)
    assert (await key_set(connection)).jwks
    assert (other.key_sets_given, broker.key_sets_given) == (0, 1)


async def test_what_one_cannot_do_just_now_is_asked_of_the_next_without_waiting(street: Street) -> None:
    for reason in (Reason.UNAVAILABLE, Reason.LEDGER_UNAVAILABLE):
        one, other = Unwilling(Refusal(reason, "not now", Hints(retry_seconds=3_600))), FakeBroker()
        addresses = [(await street.opened(each)).address for each in (one, other)]
        assert (await key_set(await street.connected(*addresses))).jwks
        assert (one.key_sets_given, other.key_sets_given) == (1, 1)


async def test_when_all_have_said_when_to_come_again_that_holds(street: Street) -> None:
    both = [Unwilling(Refusal(Reason.UNAVAILABLE, "not now", Hints(retry_seconds=3_600))) for _ in range(2)]
    addresses = [(await street.opened(each)).address for each in both]
    with pytest.raises(Refusal, match="not now"):
        await key_set(await street.connected(*addresses))
    assert [each.key_sets_given for each in both] == [1, 1]


async def test_one_that_is_stuck_does_not_use_the_time_up(street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_ATTEMPT_SECONDS", 1.0)
    stuck, other = Stuck(), FakeBroker()
    addresses = [(await street.opened(each)).address for each in (stuck, other)]
    assert (await key_set(await street.connected(*addresses))).jwks


async def test_a_no_of_one_is_the_no_of_all(street: Street) -> None:
    one, other = Unwilling(Refusal(Reason.GROUP_REQUIRED, "no")), FakeBroker()
    addresses = [(await street.opened(each)).address for each in (one, other)]
    with pytest.raises(Refusal, match="no"):
        await key_set(await street.connected(*addresses))
    assert (one.key_sets_given, other.key_sets_given) == (1, 0)


async def test_if_none_can_be_reached_each_is_named_and_nothing_is_waited_for_that_does_not_pass(
    street: Street,
) -> None:
    addresses = [(await street.opened(FakeBroker())).address.replace("localhost", "127.0.0.1") for _ in range(2)]
    with pytest.raises(Refusal, match=r"not for `127\.0\.0\.1`") as refused:
        await key_set(await street.connected(*addresses), 3_600)
    gone = [f"localhost:{free_port()}" for _ in range(2)]
    with pytest.raises(Refusal) as unreached:
        await key_set(await street.connected(*gone), 1)
    assert all(address in unreached.value.message for address in gone)
    assert refused.value.reason is unreached.value.reason is Reason.UNAVAILABLE


async def test_a_verifier_goes_on_at_the_next_broker_when_its_own_ends(street: Street) -> None:
    one, other = FakeBroker(), FakeBroker()
    async with AsyncExitStack() as life:
        ending = await life.enter_async_context(serving(one, street.folder, street.root))
        staying = await street.opened(other)
        both = Endpoint.of(f"{ending.address},{staying.address}", ending.svid_dir)
        async with watching(Verifier(RESOURCE), both):
            if not one.watched:
                one, other = other, one
                await street.stack.aclose()
            else:
                await life.aclose()
            await eventually(lambda: other.confirmed, LONG)
            assert (len(one.watched), len(other.watched)) == (1, 1)


@pytest.mark.slow
async def test_a_verifier_whose_broker_falls_silent_is_fresh_when_it_watches_elsewhere(street: Street) -> None:
    brokers = [FakeBroker(freshness=timedelta(seconds=20), heartbeat=600, confirms=False) for _ in range(2)]
    endpoints = [await street.opened(each) for each in brokers]
    both = Endpoint.of(",".join(each.address for each in endpoints), endpoints[0].svid_dir)
    async with watching(Verifier(RESOURCE), both) as verifier:
        await eventually(lambda: all(each.watched for each in brokers), LONG)
        assert verifier.is_fresh()


async def test_a_channel_is_to_one_of_the_brokers(street: Street) -> None:
    broker = FakeBroker()
    endpoint = await street.opened(broker)
    both = f"{endpoint.address}, {endpoint.address}"
    async with connect(both, endpoint.svid_dir) as channel:
        assert (await pb_grpc.VerifierServiceStub(channel).GetKeySet(pb.GetKeySetRequest(), timeout=LONG)).jwks

    def called() -> pb.KeySet:
        with connect_sync(both, endpoint.svid_dir) as channel:
            return pb_grpc.VerifierServiceStub(channel).GetKeySet(pb.GetKeySetRequest(), timeout=LONG)

    assert (await asyncio.to_thread(called)).jwks
