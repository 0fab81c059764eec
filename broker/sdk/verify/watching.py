"""A verifier that is kept fresh while a block runs, over asyncio or from a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from broker.sdk.connect.connection import Connection
from broker.sdk.connect.endpoint import Endpoint
from broker.sdk.verify.feed import Subscription
from broker.sdk.verify.verifier import Verifier


@asynccontextmanager
async def watching(verifier: Verifier, endpoint: Endpoint) -> AsyncIterator[Verifier]:
    """Keep a verifier fresh while the block runs. Waits for the first snapshot.

    Raises:
        Refusal: we have no identity; or for ten seconds the broker gave no snapshot, and the reason is that of the
            last attempt.
    """
    subscription = Subscription(verifier, await Connection.open(endpoint))
    task = asyncio.create_task(subscription.run())
    try:
        await subscription.wait_until_started()
        yield verifier
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await subscription.close()


@contextmanager
def watching_in_thread(verifier: Verifier, endpoint: Endpoint) -> Iterator[Verifier]:
    """Keep a verifier fresh from a thread of its own, for servers without an event loop; else as `watching`."""
    ready, stop = threading.Event(), threading.Event()
    failures: list[Exception] = []

    async def main() -> None:
        async with watching(verifier, endpoint):
            ready.set()
            await asyncio.to_thread(stop.wait)

    def run() -> None:
        try:
            asyncio.run(main())
        except Exception as error:  # noqa: BLE001 (raised again in the caller's thread)
            failures.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="credbroker-feed", daemon=True)
    thread.start()
    ready.wait()
    try:
        if failures:
            raise failures[0]
        yield verifier
    finally:
        stop.set()
        thread.join()
