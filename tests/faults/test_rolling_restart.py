"""Two brokers on one PostgreSQL are restarted in turn, and killed: no SDK call fails, and nothing is done twice."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from broker.model.grant import Grant
from broker.sandbox.broker import RESOURCE, TOOL
from broker.sdk.client.client import Client
from broker.sdk.connect.endpoint import Endpoint
from broker.sdk.verify.presentation import Presentation
from broker.sdk.verify.verifier import Verifier
from broker.sdk.verify.watching import watching
from broker.store.verification import verify
from tests.faults.life import stopped
from tests.faults.pair import Clients, Pair, paired
from tests.faults.proxy import Proxy

pytestmark = pytest.mark.postgres
_LIVES = 10  # between two restarts


@pytest.fixture
def pair(tmp_path: Path, postgresql_with_schema: Callable[[], str]) -> Iterator[Pair]:
    with paired(tmp_path, postgresql_with_schema()) as found:
        yield found


async def rolled(pair: Pair, how: signal.Signals) -> None:
    """Restart both under load, and hold what has become of it to what the clients were told."""
    before = pair.leases()
    clients = Clients(pair.either, 20)
    clients.start()
    for number in (0, 1):
        await clients.come_to(_LIVES)
        await pair.renew(number, how)
    await clients.come_to(_LIVES)
    await clients.finish()
    leases = pair.leases() - before
    assert {task: leases[task] for task in clients.lives} == dict.fromkeys(clients.lives, 1)
    assert leases.total() == len(clients.lives)
    assert verify(pair.url).ok


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_no_call_fails_while_brokers_are_restarted_in_turn(pair: Pair, how: signal.Signals) -> None:
    await pair.live(0)
    await pair.live(1)
    await rolled(pair, how)


@pytest.mark.long
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_none_fails_in_ten_runs(pair: Pair, how: signal.Signals) -> None:
    await pair.live(0)
    await pair.live(1)
    for _ in range(10):
        await rolled(pair, how)


@pytest.mark.long
@pytest.mark.parametrize("fault", ["cut", "block", "hold_answers"])
async def test_no_call_fails_while_one_broker_has_lost_its_database(pair: Pair, fault: str) -> None:
    server = make_url(pair.url)
    with Proxy(Path(str(server.query["host"])) / ".s.PGSQL.5432").running() as wire:
        pair.move(0, server.set(host="127.0.0.1", port=wire.port, query={}).render_as_string(hide_password=False))
        await lived_through(pair, getattr(wire, fault), wire.heal)
        pair.close()


@pytest.mark.long
async def test_no_call_fails_while_one_broker_stands_still(pair: Pair) -> None:
    await lived_through(pair, lambda: pair.pause(0), lambda: pair.pause(0, signal.SIGCONT))


async def lived_through(pair: Pair, begin: Callable[[], None], end: Callable[[], None]) -> None:
    """Let something happen to the first broker under load; hold what has become of it to what the clients were told."""
    await pair.live(0)
    await pair.live(1)
    clients = Clients(pair.either, 20)
    clients.start()
    await clients.come_to(_LIVES)
    begin()
    await clients.come_to(3 * _LIVES)  # half the clients were at the first
    end()
    await clients.come_to(_LIVES)
    await clients.finish()
    leases = pair.leases()
    assert leases == dict.fromkeys(clients.lives, 1)
    assert verify(pair.url).ok


@pytest.mark.long
async def test_a_tool_server_accepts_calls_all_along(pair: Pair) -> None:
    refused: list[Exception] = []

    async def call(verifier: Verifier, token: Callable[[], str]) -> None:
        while True:
            try:
                verifier.check(token(), TOOL, {}, Presentation(spiffe_id=pair.either.agent))
            except Exception as error:  # noqa: BLE001 (looked at below)
                refused.append(error)
            await asyncio.sleep(0.01)

    await pair.live(0)
    await pair.live(1)
    task_id = await asyncio.to_thread(pair.either.begin_task)
    endpoint = Endpoint.of(pair.either.address, pair.either.svids / "verifier")
    async with (
        watching(Verifier(RESOURCE), endpoint) as verifier,
        Client(pair.either.address, pair.either.svids / "researcher") as agent,
        agent.credential(task_id, RESOURCE, [Grant(TOOL)]) as credential,
    ):
        calling = asyncio.create_task(call(verifier, lambda: credential.token.reveal()))  # noqa: PLW0108 (renewed meanwhile)
        for number in (0, 1):
            await pair.renew(number)
        await stopped(calling)
    assert refused == []
