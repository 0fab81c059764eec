"""Answers over connections that break and from brokers that restart: a call is sent again until there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc

from broker.model.errors import Reason
from broker.sdk.connect.connection import Connection
from broker.sdk.connect.patience import AGAIN, Patience, attempt_of
from broker.sdk.connect.refusals import refusal_from, words_of_the_broker

T = TypeVar("T")
Send = Callable[[float], Awaitable[T]]
"""Makes one attempt, which has so many seconds. What it asks for is the same each time, and done once."""


async def answered(connection: Connection, send: Send[T], seconds: float, *, barrier: bool = False) -> T:
    """Return the answer of a call that has so many seconds, and perhaps waits for a barrier.

    What cannot be done by one broker is asked of the next. What waiting does not mend is not waited for, unless a
    broker has answered us before: then keys are rotated.

    Raises:
        Refusal: the broker's last one; or why none can be reached, as far as that can be found out.
    """
    patience, first = Patience(seconds, attempt=attempt_of(seconds, barrier=barrier)), not connection.answered
    asked: set[str] = set()
    while True:
        asked.add(address := connection.address)
        try:
            answer = await send(patience.attempt())
        except grpc.aio.AioRpcError as error:
            refusal = refusal_from(error)
            lost = words_of_the_broker(error) is None and refusal.reason is Reason.UNAVAILABLE
            connection.answered |= not lost
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                connection.renew()  # it may lead to nobody any more
            if refusal.reason in AGAIN:
                connection.leave(address, lost=lost)
            elsewhere = connection.address not in asked
            pause = patience.pause(refusal, elsewhere=elsewhere)
            if lost and (pause is None or (first and not elsewhere)):
                refusal, passes = await connection.explain(refusal)
                pause, first = pause if passes else None, False
            if pause is None:
                raise refusal from None  # the gRPC error's text repeats the request's metadata
            await asyncio.sleep(pause)
        else:
            connection.answered = True
            return answer
