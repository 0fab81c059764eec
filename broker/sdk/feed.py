"""The revocation feed, on the verifier's side: it keeps a `Verifier` fresh, and lets it go stale when it cannot.

A verifier is fresh until `freshness` after it *sent* a confirmation that the broker answered, and only if it had applied
every rule that the broker knew of when answering. The broker counts the same span from when the confirmation arrived,
which is later: so whoever the broker believes to be stale is (docs/decisions/0006).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta

import grpc

from broker.credential.keys import KeySet
from broker.model.clock import system_clock
from broker.sdk.connection import Connection, Endpoint
from broker.sdk.verifier import Verifier
from broker.v1 import verifier_service_pb2 as pb
from broker.v1 import verifier_service_pb2_grpc
from broker.wire.selectors import rule_from_wire
from broker.wire.times import duration_from_wire

_CALL_SECONDS = 5.0
_SHORTEST_WAIT = 0.1
_LONGEST_WAIT = 5.0
_KEYS_AT_MOST_EVERY = 5.0  # for tokens that name unknown keys
_START_SECONDS = 10.0


@asynccontextmanager
async def watching(verifier: Verifier, endpoint: Endpoint) -> AsyncIterator[Verifier]:
    """Keep a verifier fresh while the block runs. Waits for the first snapshot.

    Raises:
        TimeoutError: the broker was not heard from within ten seconds.
    """
    subscription = Subscription(verifier, endpoint)
    task = asyncio.create_task(subscription.run())
    try:
        await asyncio.wait_for(subscription.started.wait(), _START_SECONDS)
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
    failures: list[BaseException] = []

    async def main() -> None:
        try:
            async with watching(verifier, endpoint):
                ready.set()
                await asyncio.to_thread(stop.wait)
        except (TimeoutError, Exception) as error:  # noqa: BLE001 (raised again in the caller's thread)
            failures.append(error)
            ready.set()

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="credbroker-feed", daemon=True)
    thread.start()
    ready.wait()
    try:
        if failures:
            raise failures[0]
        yield verifier
    finally:
        stop.set()
        thread.join()


class Subscription:
    """One verifier's subscription: it watches, confirms, fetches keys, and begins again when it must."""

    def __init__(self, verifier: Verifier, endpoint: Endpoint) -> None:
        """Make a subscription; needs a running event loop."""
        self.started = asyncio.Event()
        self._verifier = verifier
        self._connection = Connection(endpoint)
        self._index: int | None = None
        self._keys_fetched_at = float("-inf")
        self._confirming: asyncio.Task[None] | None = None
        self._confirm_wanted = False

    async def run(self) -> None:
        """Watch until cancelled. A lost connection leaves the verifier to go stale, and is made anew."""
        wait = _SHORTEST_WAIT
        while True:
            before = self._index
            with contextlib.suppress(grpc.aio.AioRpcError, TimeoutError):
                await self._watch()
            wait = _SHORTEST_WAIT if self._index != before else min(wait * 2, _LONGEST_WAIT)
            await asyncio.sleep(wait)

    async def close(self) -> None:
        """Close the connection."""
        if self._confirming is not None:
            self._confirming.cancel()
        await self._connection.close()

    async def _watch(self) -> None:
        stub = verifier_service_pb2_grpc.VerifierServiceStub(self._connection.channel())
        sent = time.monotonic()
        stream = stub.WatchRevocations(pb.WatchRevocationsRequest(resume_index=self._index))
        caught_up = False
        try:
            async for update in stream:
                if update.keys_changed or self._verifier.unknown_key_seen:
                    await self._fetch_keys(stub, forced=update.keys_changed)
                self._apply(update)
                if not caught_up and not update.more:
                    # The first answer proves that the broker was there after the call was sent.
                    caught_up = True
                    self._be_fresh(sent, update)
                    self.started.set()
                if caught_up and (update.confirm or not update.rules):
                    self._confirm(stub, update.session_id)
        finally:
            stream.cancel()

    def _apply(self, update: pb.RevocationUpdate) -> None:
        verifier = self._verifier
        rules = [rule_from_wire(rule, f"rules[{number}]") for number, rule in enumerate(update.rules)]
        if update.snapshot:
            verifier.tenant = update.tenant
            verifier.revocations.replace(rules)
        elif rules:
            verifier.revocations.apply(rules)
        elif not update.confirm:
            verifier.revocations.forget(system_clock())
        if not update.more:
            self._index = update.index

    def _be_fresh(self, sent: float, update: pb.RevocationUpdate) -> None:
        freshness = duration_from_wire(update.freshness, "freshness")
        self._verifier.fresh_until(sent + freshness / timedelta(seconds=1))

    def _confirm(self, stub: verifier_service_pb2_grpc.VerifierServiceStub, session_id: str) -> None:
        """Confirm beside the stream, so that rules are applied meanwhile; once more if one is under way."""
        self._confirm_wanted = True
        if self._confirming is None or self._confirming.done():
            self._confirming = asyncio.create_task(self._confirm_while_wanted(stub, session_id))

    async def _confirm_while_wanted(
        self, stub: verifier_service_pb2_grpc.VerifierServiceStub, session_id: str
    ) -> None:
        while self._confirm_wanted:
            self._confirm_wanted = False
            await self._confirm_now(stub, session_id)

    async def _confirm_now(self, stub: verifier_service_pb2_grpc.VerifierServiceStub, session_id: str) -> None:
        index = self._index if self._index is not None else -1
        sent = time.monotonic()
        try:
            answer = await stub.ConfirmRevocations(
                pb.ConfirmRevocationsRequest(session_id=session_id, index=index), timeout=_CALL_SECONDS
            )
        except grpc.aio.AioRpcError:
            return  # not confirmed, so not fresh for longer; the stream tells if it is over
        if index >= answer.index:
            freshness = duration_from_wire(answer.freshness, "freshness")
            self._verifier.fresh_until(sent + freshness / timedelta(seconds=1))

    async def _fetch_keys(self, stub: verifier_service_pb2_grpc.VerifierServiceStub, *, forced: bool) -> None:
        now = time.monotonic()
        if not forced and now - self._keys_fetched_at < _KEYS_AT_MOST_EVERY:
            return
        self._keys_fetched_at = now
        self._verifier.unknown_key_seen = False
        answer = await stub.GetKeySet(pb.GetKeySetRequest(), timeout=_CALL_SECONDS)
        self._verifier.use_keys(answer.issuer, KeySet.from_jwks(answer.jwks))
