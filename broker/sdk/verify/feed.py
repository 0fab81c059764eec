"""The revocation feed, on the verifier's side: it keeps a `Verifier` fresh, and lets it go stale when it cannot.

A verifier is fresh until the `freshness` of an answer after it *sent* the confirmation that is answered. The broker
counts the same span from when the confirmation arrived, which is later: so whoever the broker believes to be stale is
(docs/decisions/0006).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import time
from datetime import timedelta

import grpc
from google.protobuf.duration_pb2 import Duration

from broker.credential.keys import KeySet
from broker.model.errors import Hints, Reason, Refusal
from broker.model.selector import RevocationRule
from broker.sdk.connect.connection import Connection
from broker.sdk.connect.refusals import refusal_from
from broker.sdk.verify.conversation import CALL_SECONDS, Conversation, Following, Watching
from broker.sdk.verify.verifier import Verifier
from broker.v1 import verifier_service_pb2 as pb
from broker.v1 import verifier_service_pb2_grpc as pb_grpc
from broker.wire.selectors import rule_from_wire
from broker.wire.times import duration_from_wire, instant_from_wire

_SHORTEST_WAIT = 0.1
_LONGEST_WAIT = 5.0
_BEHIND_SECONDS = 0.25  # until the next confirmation, when the last came too early
_IDENTITY_SECONDS = 1.0  # until we look again whether we have one
_CONFIRMATIONS = 3  # per span of freshness, so that one may be lost
_KEYS_AT_MOST_EVERY = 5.0  # for tokens that name unknown keys
_START_SECONDS = 10.0
_SILENCE = 0.6  # of the freshness, without a heartbeat: then there is time left to watch elsewhere
_LOG = logging.getLogger("credbroker")
_NO_IDENTITY = (Reason.IDENTITY_MISSING, Reason.IDENTITY_EXPIRED, Reason.IDENTITY_INVALID)


class Subscription:
    """One verifier's subscription: it watches, confirms, fetches keys, and begins again when it must."""

    def __init__(self, verifier: Verifier, connection: Connection) -> None:
        """Make a subscription over a connection that is closed with it; needs a running event loop."""
        self._verifier = verifier
        self._connection = connection
        self._started = asyncio.Event()
        self._failure: Refusal | None = None
        self._index: int | None = None
        self._origin = ""
        self._checkpoint = ""
        self._secret = ""
        self._staged: list[RevocationRule] = []
        self._replacing = False
        self._confirm_due = asyncio.Event()
        self._numbers = itertools.count(1)
        self._sent: dict[int, float] = {}  # when each confirmation was that is not answered yet
        self._keys_fetched_at = float("-inf")

    async def wait_until_started(self) -> None:
        """Wait for the first snapshot.

        Raises:
            Refusal: it did not come in time.
        """
        try:
            await asyncio.wait_for(self._started.wait(), _START_SECONDS)
        except TimeoutError:
            refusal = self._failure or _silent()
            if refusal.reason is Reason.UNAVAILABLE:
                refusal, _passes = await self._connection.explain(refusal)
            raise refusal from None

    async def run(self) -> None:
        """Watch until cancelled. Whatever goes wrong leaves the verifier to go stale, and is tried anew."""
        wait = _SHORTEST_WAIT
        while True:
            began = time.monotonic()
            try:
                await self._watch_here()
            except grpc.aio.AioRpcError as error:
                self._failure = refusal_from(error)
                if self._failure.reason is Reason.INVALID_ARGUMENT:
                    self._secret = ""  # a broker of the version before does not know what that is
            except TimeoutError:
                self._failure = _silent()
                self._connection.renew()  # it may lead to nobody any more
            except (Refusal, ValueError) as error:
                self._failure = _failure(error)
            except Exception as error:  # noqa: BLE001 (without a feed the verifier would be stale for ever, in silence)
                _LOG.exception("the revocation feed has failed, and is tried anew")
                self._failure = Refusal(Reason.INTERNAL, f"the revocation feed has failed: {type(error).__name__}")
            lasted = time.monotonic() - began
            wait = _SHORTEST_WAIT if lasted > _LONGEST_WAIT else min(wait * 2, _LONGEST_WAIT)
            await asyncio.sleep(wait * (0.5 + secrets.randbelow(1_000) / 1_000))

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def _watch_here(self) -> None:
        """Follow one stream of the broker in use; if it fails, let the next be in use."""
        address = self._connection.address
        try:
            await self._watch()
        except Exception:
            self._connection.leave(address, lost=True)
            raise

    async def _watch(self) -> None:
        """Follow one stream, in the way that the broker knows."""
        request = pb.WatchRevocationsRequest(
            resume_index=self._index,
            resume_origin=self._origin,
            checkpoint=self._checkpoint,
            session_secret=self._secret,
        )
        channel, sent = self._connection.channel(), self._verifier.monotonic()
        try:
            await self._talk(Following(pb_grpc.VerifierServiceStub(channel), request), channel, sent)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise
            sent = self._verifier.monotonic()
            await self._talk(Watching(self._stub, request, self._answered), channel, sent)

    async def _talk(self, broker: Conversation, channel: grpc.aio.Channel, sent: float) -> None:
        """Listen, and confirm beside that. Returns when another stream is needed.

        Raises:
            TimeoutError: nothing was heard for so long that the verifier would soon be stale.
        """
        loop = asyncio.get_running_loop()
        self._staged, self._replacing = [], False
        self._sent.clear()
        confirming: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(_START_SECONDS) as silence:
                await broker.begin()
                async for update in broker.updates:
                    silence.reschedule(loop.time() + _seconds(update.freshness) * _SILENCE)
                    if not await self._take(update) or (confirming is not None and confirming.done()):
                        return
                    if confirming is None and not update.more:
                        # The first answer proves that the broker was there after the call was sent.
                        self._verifier.fresh_until(sent + _seconds(update.freshness))
                        self._started.set()
                        confirming = asyncio.create_task(self._confirm(broker, channel, _seconds(update.freshness)))
        finally:
            broker.cancel()
            if confirming is not None:
                confirming.cancel()

    async def _take(self, update: pb.RevocationUpdate) -> bool:
        """Apply a message. Return whether the stream can go on."""
        other = update.tenant != self._verifier.tenant or update.origin != self._origin
        if not update.snapshot and not self._replacing and other:
            # What was missed is not what this verifier needs from now on, or counts in another ledger.
            self._index = None
            return False
        self._secret = update.session_secret or self._secret
        if update.HasField("confirmed"):
            self._answered(update.confirmed)
        if update.keys_changed or self._verifier.unknown_key_seen:
            await self._fetch_keys(forced=update.keys_changed)
        self._apply(update)
        if update.confirm or not (update.rules or update.HasField("confirmed")):
            self._confirm_due.set()
        return True

    def _apply(self, update: pb.RevocationUpdate) -> None:
        """Apply rules; those of a snapshot together, so that none is missing meanwhile."""
        if update.snapshot:
            self._staged, self._replacing = [], True
        self._staged += [rule_from_wire(rule, f"rules[{number}]") for number, rule in enumerate(update.rules)]
        if update.more:
            return
        verifier = self._verifier
        if self._replacing:
            verifier.serve(update.tenant)
            verifier.revocations.replace(self._staged)
        elif self._staged:
            verifier.revocations.apply(self._staged)
        else:
            # By both clocks: if either is wrong, a rule is kept for longer.
            verifier.revocations.forget(min(verifier.clock(), instant_from_wire(update.send_time, "send_time")))
        self._staged, self._replacing = [], False
        self._index, self._origin = update.index, update.origin
        self._checkpoint = update.checkpoint or self._checkpoint

    async def _confirm(self, broker: Conversation, channel: grpc.aio.Channel, freshness: float) -> None:
        """Confirm whenever it is due, and in any case often enough, while the session lasts and we are who we were."""
        looked_at, lasts = time.monotonic(), True
        while lasts:
            timer = self._confirm_after(freshness / _CONFIRMATIONS)
            await self._confirm_due.wait()
            timer.cancel()
            self._confirm_due.clear()
            if time.monotonic() >= looked_at + _IDENTITY_SECONDS:
                try:
                    if self._connection.channel() is not channel:
                        return  # there is something new to show: watch with that
                except Refusal:  # whoever is nobody confirms nothing
                    self._confirm_after(_BEHIND_SECONDS)
                    continue
                looked_at = time.monotonic()
            number = next(self._numbers)
            self._sent[number] = self._verifier.monotonic()
            index = -1 if self._index is None else self._index
            lasts = await broker.confirm(pb.Applied(number=number, index=index))

    def _answered(self, confirmed: pb.Confirmed) -> None:
        """Take the answer to a confirmation: it keeps the verifier fresh from when that was sent."""
        if (sent := self._sent.get(confirmed.number)) is None:
            return
        self._sent = {number: at for number, at in self._sent.items() if number > confirmed.number}
        if freshness := _seconds(confirmed.freshness):
            self._verifier.fresh_until(sent + freshness)
        else:  # what we have been granted before holds
            self._confirm_after(_BEHIND_SECONDS)

    def _confirm_after(self, seconds: float) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, self._confirm_due.set)

    async def _fetch_keys(self, *, forced: bool) -> None:
        now = time.monotonic()
        if not forced and now - self._keys_fetched_at < _KEYS_AT_MOST_EVERY:
            return
        self._keys_fetched_at = now
        self._verifier.unknown_key_seen = False
        answer = await self._stub().GetKeySet(pb.GetKeySetRequest(), timeout=CALL_SECONDS)
        self._verifier.use_keys(answer.issuer, KeySet.from_jwks(answer.jwks))

    def _stub(self) -> pb_grpc.VerifierServiceAsyncStub:
        """Return a stub that shows who we are now.

        Raises:
            Refusal: we have no identity.
        """
        return pb_grpc.VerifierServiceStub(self._connection.channel())


def _seconds(freshness: Duration) -> float:
    return duration_from_wire(freshness, "freshness") / timedelta(seconds=1)


def _failure(error: Refusal | ValueError) -> Refusal:
    if isinstance(error, Refusal) and error.reason in _NO_IDENTITY:
        return error
    return Refusal(Reason.INTERNAL, f"the broker's answer is not understood: {error}")


def _silent() -> Refusal:
    return Refusal(
        Reason.UNAVAILABLE,
        "the broker was not heard from",
        Hints(next="check the address, that the broker runs, and that this workload is in the group `verifiers`"),
    )
