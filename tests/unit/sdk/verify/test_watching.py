"""Watching without an event loop of one's own: from a thread, and to the end of the program."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.model.errors import Reason, Refusal
from broker.sandbox.certificates import Authority
from broker.sdk.verify.verifier import Verifier
from broker.sdk.verify.watching import watching
from tests.support.fakes import FakeBroker, authority, known, rule, serving

AUDIENCE = "https://repo.tools.example"


@pytest.fixture(scope="module")
def root() -> Authority:
    return authority()


@pytest.fixture
def broker_elsewhere(tmp_path: Path, root: Authority) -> Iterator[tuple[FakeBroker, object, asyncio.AbstractEventLoop]]:
    """A fake on an event loop of its own, for tests that have none."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    broker = FakeBroker()
    server = serving(broker, tmp_path, root)
    endpoint = asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result()
    yield broker, endpoint, loop

    async def leave() -> None:
        await server.__aexit__(None, None, None)

    asyncio.run_coroutine_threadsafe(leave(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_a_server_without_an_event_loop_watches_from_a_thread(broker_elsewhere) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    broker, endpoint, loop = broker_elsewhere
    with watching(Verifier(AUDIENCE), endpoint) as verifier:
        assert verifier.is_fresh()
        loop.call_soon_threadsafe(broker.push, rule(4))
        ends = time.monotonic() + 5
        while known(verifier) != {4} and time.monotonic() < ends:
            time.sleep(0.01)
        assert known(verifier) == {4}
    assert "credbroker-feed" not in {thread.name for thread in threading.enumerate()}


def test_a_thread_that_cannot_begin_says_why(broker_elsewhere, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    monkeypatch.setattr("broker.sdk.verify.feed._START_SECONDS", 0.3)
    broker, endpoint, _ = broker_elsewhere
    broker.refusal = Refusal(Reason.IDENTITY_UNKNOWN, "no rule knows this workload")
    with pytest.raises(Refusal) as refused, watching(Verifier(AUDIENCE), endpoint):
        pytest.fail("the block must not run")
    assert refused.value.reason is Reason.IDENTITY_UNKNOWN


def test_a_program_that_never_leaves_the_block_ends_all_the_same(broker_elsewhere) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    _, endpoint, _ = broker_elsewhere
    program = (
        "from broker.sdk import Endpoint, Verifier, watching\n"
        f"endpoint = Endpoint.of({endpoint.address!r}, {str(endpoint.svid_dir)!r})\n"
        f"block = watching(Verifier({AUDIENCE!r}), endpoint)\n"
        "block.__enter__()\n"
        "print('the last line')"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout == "the last line\n"
