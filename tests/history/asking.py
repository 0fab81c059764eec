"""How callers ask brokers, and record what they ask and what comes of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import grpc

from broker.model.errors import Reason, Refusal
from broker.sdk.connect.refusals import refusal_from
from tests.history.bus import Bus
from tests.history.events import E
from tests.history.lot import Lot
from tests.history.recording import Recorder
from tests.history.setting import Setting

T = TypeVar("T")

CALL_SECONDS = 4.0  # for a call, with a client's own repetitions
BARRIER_SECONDS = 30.0
REQUEST: ContextVar[str] = ContextVar("request")
"""The id of the request that a client is about to make."""

_NO_ANSWER = frozenset({Reason.UNAVAILABLE, Reason.LEDGER_UNAVAILABLE, Reason.INTERNAL})
_ROUNDS = 2
_PAUSE_SECONDS = 0.5
_TWO_AT_ONCE, _ONCE_MORE = 5, 5  # one call in so many


@dataclass(frozen=True, slots=True)
class Asking:
    """What all callers of a process share."""

    setting: Setting
    record: Recorder
    bus: Bus
    lot: Lot

    async def told(self, event: E, call: Awaitable[T], answered: Callable[[T], Mapping[str, Any]]) -> E:
        """Record an event when it begins, and what has come of it when it is over. Return it then."""
        number = self.record.note(event)
        try:
            fields = {"ended": 0.0, **answered(await call)}
        except (Refusal, grpc.aio.AioRpcError) as error:
            reason = (error if isinstance(error, Refusal) else refusal_from(error)).reason
            fields = {"refused": reason, "ended": None if reason in _NO_ANSWER else 0.0}
        if fields["ended"] is not None:
            fields["ended"] = time.monotonic()
        event = replace(event, **fields)
        self.record.note(event, number)
        return event

    async def surely(self, ask: Callable[[int], Awaitable[E]]) -> E:
        """Ask `everywhere`, again and again until there is an answer: what nobody knows of would be in the way."""
        while True:
            event = await self.everywhere(ask)
            if event.ended is not None:
                return event
            await asyncio.sleep(_PAUSE_SECONDS)

    async def everywhere(self, ask: Callable[[int], Awaitable[E]]) -> E:
        """Ask brokers, by their numbers, until one has answered. Return that.

        Now and then two are asked at once, and now and then another is asked again after the answer.
        """
        brokers = self.lot.shuffled(range(len(self.setting.brokers))) * _ROUNDS
        if self.lot.one_in(_TWO_AT_ONCE):
            event, _other = await asyncio.gather(ask(brokers[0]), ask(brokers[1]))
        else:
            event = await ask(brokers[0])
        for broker in brokers[1:]:
            if event.ended is not None:
                break
            event = await ask(broker)
        if self.lot.one_in(_ONCE_MORE):
            await ask(brokers[-1])
        return event
