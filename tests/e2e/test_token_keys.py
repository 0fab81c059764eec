"""Token keys of brokers that run: their verifiers, and those of the others, know which are good."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

from broker.cli import cli
from broker.cli.unverified import decode
from broker.credential.keys import KeySet
from broker.model.errors import Reason, Refusal
from broker.sandbox.broker import AGENT, RESOURCE, TOOL, Broker, prepare, running
from broker.sdk.connect.connection import connect_sync
from broker.sdk.connect.endpoint import Endpoint
from broker.sdk.verify.presentation import Presentation
from broker.sdk.verify.verifier import Verifier
from broker.sdk.verify.watching import watching
from broker.store.verification import verify
from broker.v1.verifier_service_pb2 import GetKeySetRequest, WatchRevocationsRequest
from broker.v1.verifier_service_pb2_grpc import VerifierServiceStub
from tests.support.fakes import eventually

LONG = 60.0  # seconds: however busy the machine is


def keys(command: str, folder: Path, *options: object) -> None:
    result = CliRunner().invoke(cli, ["keys", command, str(folder / "keys"), *map(str, options)])
    assert result.exit_code == 0, result.output


def reason(verifier: Verifier, token: str) -> Reason | None:
    try:
        verifier.check(token, TOOL, {}, Presentation(spiffe_id=AGENT))
    except Refusal as refusal:
        return refusal.reason
    return None


def kid_of(token: str) -> str:
    return str(decode(token).header["kid"])


async def first_signed(broker: Broker, after: str = "") -> str:
    """Return the first token that a broker signs with another key than that of `after`."""
    async with asyncio.timeout(LONG):
        while True:
            with suppress(Refusal):  # it has no key yet that it may sign with
                (token,) = await asyncio.to_thread(broker.issue, 1)
                if not after or kid_of(token) != kid_of(after):
                    return token


@pytest.fixture
def url(new_postgresql_url: Callable[[], str]) -> str:
    return new_postgresql_url().replace("postgresql+psycopg", "postgresql")


@pytest.fixture
def here(tmp_path: Path, url: str) -> Iterator[Broker]:
    """The broker that begins the ledger."""
    deployment = prepare(tmp_path / "here")
    configured = deployment.configuration.read_text()
    deployment.configuration.write_text(re.sub(r'url = "broker.db"', f'url = "{url}"', configured))
    with running(tmp_path / "here") as broker:
        yield broker


@pytest.fixture
def there(tmp_path: Path, here: Broker) -> Iterator[Broker]:
    """A broker that joins it, set up as the page on production says: a copy of the ledger's key, and of the mark."""
    del here
    first, second = tmp_path / "here", tmp_path / "there"
    shutil.copytree(first, second, ignore=shutil.ignore_patterns("keys"))
    keys("create", second, "--ledger-key", first / "keys" / "checkpoint.pem")
    shutil.copy(first / "keys" / "ledger.mark", second / "keys")
    with running(second) as broker:
        yield broker


async def comes_to(verifier: Verifier, expected: Reason | None, *tokens: str) -> None:
    """Wait until a verifier says this of tokens: it may be told late, or be stale for a while on a busy machine."""
    for token in tokens:
        await eventually(lambda token=token: reason(verifier, token) is expected, seconds=LONG)


@pytest.mark.postgres
async def test_what_either_signs_is_good_at_both_and_what_is_withdrawn_on_one_is_refused_at_both(
    tmp_path: Path, url: str, here: Broker, there: Broker
) -> None:
    async with AsyncExitStack() as stack:
        watched = [Endpoint.of(broker.address, broker.svids / "verifier") for broker in (here, there)]
        at_here, at_there = [await stack.enter_async_context(watching(Verifier(RESOURCE), at)) for at in watched]
        stolen = await first_signed(here)
        await comes_to(at_there, None, stolen)
        keys("rotate", tmp_path / "here", "--lead", "1s")
        first, rotated = await first_signed(there), await first_signed(here, after=stolen)
        for verifier in (at_here, at_there):
            await comes_to(verifier, None, first, rotated, stolen)
        keys("replace", tmp_path / "here")
        for verifier in (at_here, at_there):
            await comes_to(verifier, Reason.TOKEN_INVALID, stolen, rotated)
            await comes_to(verifier, None, first)
    assert verify(url).ok


def test_verifiers_are_told_of_a_withdrawal_while_the_broker_runs(tmp_path: Path) -> None:
    with running(tmp_path) as broker, connect_sync(broker.address, broker.svids / "verifier") as channel:
        stub = VerifierServiceStub(channel)
        (token,) = broker.issue(1)
        told = (update.keys_changed for update in stub.WatchRevocations(WatchRevocationsRequest(), timeout=LONG))
        assert next(told), "whoever comes fetches them"
        keys("replace", tmp_path)
        assert any(told)
        published = KeySet.from_jwks(stub.GetKeySet(GetKeySetRequest()).jwks)
        assert published.find(kid_of(token)) is None
