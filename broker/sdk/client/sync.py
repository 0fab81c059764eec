"""The client for threads: the asyncio client, on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from broker.credential.keys import EcSigner
from broker.model.grant import Grant
from broker.model.task import Declaration, Task, TaskState
from broker.sdk.client.client import Client
from broker.sdk.client.credential import Credential
from broker.sdk.client.keeping import Tell, tell_log
from broker.sdk.connect.identity import Identity

T = TypeVar("T")


class SyncClient:
    """`Client` with plain `with` blocks: ``with SyncClient() as client, client.task(declaration) as task: …``."""

    def __init__(
        self,
        address: str | None = None,
        svid_dir: str | Path | None = None,
        *,
        identity: Identity | None = None,
        holder_key: EcSigner | None = None,
        issuer: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        """Make a client; else as `Client`."""
        self._client = Client(
            address, svid_dir, identity=identity, holder_key=holder_key, issuer=issuer, timeout=timeout
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Open the connection."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="credbroker-client", daemon=True)
        self._thread.start()
        try:
            self._run(self._client.__aenter__())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        """Close the connection, and end the thread."""
        try:
            self._run(self._client.__aexit__())
        finally:
            self._stop()

    @contextmanager
    def task(self, declaration: Declaration) -> Iterator[Task]:
        """Declare a task for the time of a block; else as `Client.task`."""
        with self._block(self._client.task(declaration)) as task:
            yield task

    @contextmanager
    def credential(
        self,
        task_id: str,
        resource: str,
        grants: Sequence[Grant],
        *,
        lifetime: timedelta | None = None,
        explanation: str = "",
        tell: Tell = tell_log,
    ) -> Iterator[Credential]:
        """Hold a credential for the time of a block; else as `Client.credential`. `tell` is called in our thread."""
        held = self._client.credential(task_id, resource, grants, lifetime=lifetime, explanation=explanation, tell=tell)
        with self._block(held) as credential:
            yield credential

    def create_task(self, declaration: Declaration) -> Task:
        """As `Client.create_task`."""
        return self._run(self._client.create_task(declaration))

    def end_task(self, task_id: str, outcome: TaskState, *, barrier: bool = False) -> int:
        """As `Client.end_task`."""
        return self._run(self._client.end_task(task_id, outcome, barrier=barrier))

    def issue(
        self,
        task_id: str,
        resource: str,
        grants: Sequence[Grant],
        *,
        lifetime: timedelta | None = None,
        explanation: str = "",
    ) -> Credential:
        """As `Client.issue`."""
        return self._run(self._client.issue(task_id, resource, grants, lifetime=lifetime, explanation=explanation))

    def renew(self, credential: Credential, *, lifetime: timedelta | None = None) -> None:
        """As `Client.renew`."""
        self._run(self._client.renew(credential, lifetime=lifetime))

    def release(self, lease_id: str) -> int:
        """As `Client.release`."""
        return self._run(self._client.release(lease_id))

    @contextmanager
    def _block(self, block: AbstractAsyncContextManager[T]) -> Iterator[T]:
        value = self._run(_entering(block))
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
        if self._loop is None or self._thread is None:
            work.close()
            msg = "use the client as `with SyncClient() as client`"
            raise RuntimeError(msg)
        if not self._thread.is_alive() or self._thread is threading.current_thread():
            work.close()
            msg = "open a client of its own in each process that was forked, and call none from its own thread (`tell`)"
            raise RuntimeError(msg)
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # it may be we who were interrupted, and then nobody waits for it
            raise

    def _stop(self) -> None:
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
        self._loop = self._thread = None


async def _entering(block: AbstractAsyncContextManager[T]) -> T:
    return await block.__aenter__()
