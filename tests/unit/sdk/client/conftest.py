"""A desk for clients of threads."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from broker.sdk.connect.endpoint import Endpoint
from tests.support.desk import FakeDesk, serving


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
