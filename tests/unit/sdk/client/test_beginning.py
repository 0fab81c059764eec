"""What is cancelled before it has begun is ended all the same: the broker may be done with it."""

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from broker.model.errors import Reason, Refusal
from broker.model.task import TaskState
from broker.sdk.client.client import Client
from broker.sdk.client.credential import Credential
from broker.sdk.client.keeping import Event
from broker.sdk.client.sync import SyncClient
from broker.sdk.connect.endpoint import Endpoint
from tests.support.desk import FakeDesk, serving
from tests.support.fakes import eventually
from tests.support.waiting import wait_for
from tests.unit.sdk.client.test_client import DECLARATION, GRANTS, REPO


@pytest.fixture
def desk() -> FakeDesk:
    return FakeDesk()


@pytest.fixture
async def client(desk: FakeDesk, tmp_path: Path) -> AsyncIterator[Client]:
    async with serving(desk, tmp_path) as endpoint, Client(endpoint.address, endpoint.svid_dir) as client:
        yield client


async def cancelled_in_its_beginning(block: AbstractAsyncContextManager[object], desk: FakeDesk, name: str) -> None:
    """Cancel whoever enters a block while the broker has the call that begins it, and answers it afterwards."""

    async def work() -> None:
        async with block:
            pytest.fail("the block must not run")

    desk.held.add(name)
    working = asyncio.create_task(work())
    await eventually(lambda: desk.calls == [name])
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    desk.held.clear()


async def test_a_credential_is_released(client: Client, desk: FakeDesk) -> None:
    await cancelled_in_its_beginning(client.credential("t-1", REPO, GRANTS), desk, "issue")
    await eventually(lambda: desk.released == ["l-1"])


async def test_a_task_is_ended(client: Client, desk: FakeDesk) -> None:
    await cancelled_in_its_beginning(client.task(DECLARATION), desk, "create")
    await eventually(lambda: desk.outcomes == [TaskState.CANCELLED])


async def test_a_client_closes_when_that_is_done(desk: FakeDesk, tmp_path: Path) -> None:
    async with serving(desk, tmp_path) as endpoint:
        async with Client(endpoint.address, endpoint.svid_dir) as client:
            await cancelled_in_its_beginning(client.credential("t-1", REPO, GRANTS), desk, "issue")
        assert desk.released == ["l-1"]
        with pytest.raises(RuntimeError, match="async with Client"):
            await client.release("l-2")


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let SIGINT interrupt, as a shell lets it: what a shell has in its background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_thread_leaves_nothing_behind(desk: FakeDesk, endpoint_elsewhere: Endpoint) -> None:
    desk.held.add("issue")

    def interrupt() -> None:
        wait_for(lambda: desk.calls == ["issue"])
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with SyncClient(endpoint_elsewhere.address, endpoint_elsewhere.svid_dir) as client:
        interrupting = threading.Thread(target=interrupt)
        interrupting.start()
        with pytest.raises(KeyboardInterrupt), client.credential("t-1", REPO, GRANTS):
            pytest.fail("the block must not run")
        interrupting.join()
        desk.held.clear()
    assert desk.released == ["l-1"]


def test_a_client_of_threads_says_that_it_is_not_there_in_a_forked_process(endpoint_elsewhere: Endpoint) -> None:
    program = f"""
import os
from broker.sdk import SyncClient

with SyncClient({endpoint_elsewhere.address!r}, {str(endpoint_elsewhere.svid_dir)!r}) as client:
    client.release("l-1")
    if (child := os.fork()) == 0:
        try:
            client.release("l-1")
        except RuntimeError as error:
            print(error, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert "in each process that was forked" in ended.stdout


def test_a_client_of_threads_is_not_called_in_its_own(desk: FakeDesk, endpoint_elsewhere: Endpoint) -> None:
    desk.refused_always["release"] = Refusal(Reason.POLICY_DENIED, "no")
    said: list[BaseException] = []

    with SyncClient(endpoint_elsewhere.address, endpoint_elsewhere.svid_dir) as client:

        def tell(credential: Credential, _event: Event, _error: object) -> None:
            with pytest.raises(RuntimeError, match="its own thread") as refused:
                client.renew(credential)
            said.append(refused.value)

        with client.credential("t-1", REPO, GRANTS, tell=tell):
            pass
    assert len(said) == 1
