"""A verifier that is kept fresh while a block runs, over asyncio or from a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType

from broker.sdk.connect.connection import Connection
from broker.sdk.connect.endpoint import Endpoint
from broker.sdk.verify.feed import Subscription
from broker.sdk.verify.verifier import Verifier


class watching:  # noqa: N801 (a block, as `contextlib.suppress` is)
    """Keep a verifier fresh while a block runs, which gets it: ``async with watching(verifier, endpoint): …``.

    With plain `with`, for servers without an event loop, it is kept fresh from a thread of its own. The block begins
    when the first snapshot of revocations is there.

    Raises:
        Refusal: we have no identity; or for ten seconds the broker gave no snapshot, and the reason is that of the
            last attempt.
    """

    def __init__(self, verifier: Verifier, endpoint: Endpoint) -> None:
        self._in_loop = _in_this_loop(verifier, endpoint)
        self._in_thread = _in_a_thread(verifier, endpoint)

    async def __aenter__(self) -> Verifier:
        return await self._in_loop.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._in_loop.__aexit__(kind, error, traceback)

    def __enter__(self) -> Verifier:
        return self._in_thread.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return self._in_thread.__exit__(kind, error, traceback)


@asynccontextmanager
async def _in_this_loop(verifier: Verifier, endpoint: Endpoint) -> AsyncIterator[Verifier]:
    subscription = Subscription(verifier, await Connection.open(endpoint))
    task = asyncio.create_task(subscription.run())
    try:
        await subscription.wait_until_started()
        yield verifier
    finally:
        task.cancel()
        try:
            await asyncio.wait([task])  # not the task itself: its end must not pass for ours, or ours for its
        finally:
            await subscription.close()


@contextmanager
def _in_a_thread(verifier: Verifier, endpoint: Endpoint) -> Iterator[Verifier]:
    ready, stop = threading.Event(), Future[None]()
    failures: list[Exception] = []

    async def main() -> None:
        async with _in_this_loop(verifier, endpoint):
            ready.set()
            await asyncio.wrap_future(stop)  # not in an executor's thread: for those a program waits at its end

    def run() -> None:
        try:
            asyncio.run(main())
        except Exception as error:  # noqa: BLE001 (raised again in the caller's thread)
            failures.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="credbroker-feed", daemon=True)
    thread.start()
    try:
        ready.wait()
        if failures:
            raise failures[0]
        yield verifier
    finally:
        stop.set_result(None)
        thread.join()
