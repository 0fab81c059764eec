"""The client for threads: the asyncio client, on an event loop in a thread of its own. There is no second copy of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from broker.model.grant import Grant
from broker.model.task import Task
from broker.sdk.client import Client, Credential, TaskDeclaration

T = TypeVar("T")


class SyncClient:
    """`Client` with plain `with` blocks.

        with SyncClient() as client, client.task(declaration) as task:
            with client.credential(task.id, resource, grants) as credential: ...
    """

    def __init__(self, address: str | None = None, svid_dir: str | Path | None = None) -> None:
        """Make a client; else as `Client`."""
        self._client = Client(address, svid_dir)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="credbroker-client", daemon=True)

    def __enter__(self) -> SyncClient:
        """Open the connection."""
        self._thread.start()
        self._run(self._client.__aenter__())
        return self

    def __exit__(self, *_error: object) -> None:
        """Close the connection, and end the thread."""
        self._run(self._client.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @contextmanager
    def task(self, declaration: TaskDeclaration) -> Iterator[Task]:
        """Declare a task for the time of a block; else as `Client.task`."""
        with self._block(self._client.task(declaration)) as task:
            yield task

    @contextmanager
    def credential(
        self, task_id: str, resource: str, grants: Sequence[Grant], *, lifetime: timedelta | None = None
    ) -> Iterator[Credential]:
        """Hold a credential for the time of a block; else as `Client.credential`."""
        with self._block(self._client.credential(task_id, resource, grants, lifetime=lifetime)) as credential:
            yield credential

    @contextmanager
    def _block(self, block: AbstractAsyncContextManager[T]) -> Iterator[T]:
        value = self._run(block.__aenter__())
        try:
            yield value
        except BaseException as error:
            self._leave(block, type(error), error, error.__traceback__)
            raise
        self._leave(block, None, None, None)

    def _leave(
        self,
        block: AbstractAsyncContextManager[Any],
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        async def leave() -> None:
            await block.__aexit__(kind, error, traceback)

        self._run(leave())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
