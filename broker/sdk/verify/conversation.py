"""How a verifier and a broker talk: on one stream; with one of the version before, by a call for each confirmation.

A confirmation has a number of the verifier's own, which its answer names.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable
from contextlib import suppress
from typing import Protocol

import grpc

from broker.model.errors import Reason, Refusal
from broker.sdk.connect.refusals import refusal_from
from broker.v1 import verifier_service_pb2 as pb
from broker.v1 import verifier_service_pb2_grpc as pb_grpc

CALL_SECONDS = 5.0


class Conversation(Protocol):
    """A broker's updates, and confirmations to it."""

    updates: AsyncIterable[pb.RevocationUpdate]

    async def begin(self) -> None:
        """Ask for updates."""

    async def confirm(self, applied: pb.Applied) -> bool:
        """Send a confirmation; report whether the broker may go on listening to more."""

    def cancel(self) -> None:
        """End it."""


class Following:
    """Confirmations go the way that updates come, and are answered among them."""

    def __init__(self, stub: pb_grpc.VerifierServiceAsyncStub, request: pb.WatchRevocationsRequest) -> None:
        """Call; needs a running event loop."""
        self._request = request
        self._stream = stub.FollowRevocations()
        self.updates: AsyncIterable[pb.RevocationUpdate] = self._stream

    async def begin(self) -> None:
        """Ask for updates."""
        await self._say(pb.FollowRevocationsRequest(watch=self._request))

    async def confirm(self, applied: pb.Applied) -> bool:
        """Send a confirmation; report whether there is still a stream to send more."""
        return await self._say(pb.FollowRevocationsRequest(applied=applied))

    def cancel(self) -> None:
        """End the stream."""
        self._stream.cancel()

    async def _say(self, message: pb.FollowRevocationsRequest) -> bool:
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # whoever reads the stream learns why it ended
            await self._stream.write(message)
            return True
        return False


class Watching:
    """Each confirmation is a call. `stub` shows who we are at the time; an answer goes to `answered`."""

    def __init__(
        self,
        stub: Callable[[], pb_grpc.VerifierServiceAsyncStub],
        request: pb.WatchRevocationsRequest,
        answered: Callable[[pb.Confirmed], None],
    ) -> None:
        """Call; needs a running event loop."""
        self._stub = stub
        self._answered = answered
        self._session_id = ""
        self._stream = stub().WatchRevocations(request)
        self.updates: AsyncIterable[pb.RevocationUpdate] = self._listen()

    async def begin(self) -> None:
        """Do nothing: the call was the question."""

    async def confirm(self, applied: pb.Applied) -> bool:
        """Confirm; report whether the session lasts."""
        request = pb.ConfirmRevocationsRequest(session_id=self._session_id, index=applied.index)
        answer = pb.Confirmed(number=applied.number)
        try:
            response = await self._stub().ConfirmRevocations(request, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            if refusal_from(error).reason is Reason.FEED_SESSION_UNKNOWN:
                return False
        except Refusal:
            pass  # we have no identity, so nobody could know who confirms
        else:
            answer.freshness.CopyFrom(response.freshness)
        self._answered(answer)
        return True

    def cancel(self) -> None:
        """End the stream."""
        self._stream.cancel()

    async def _listen(self) -> AsyncIterable[pb.RevocationUpdate]:
        async for update in self._stream:
            self._session_id = update.session_id or self._session_id
            yield update
