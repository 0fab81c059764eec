"""Waiting for a moment, so that those who come at the same time are served together."""

from __future__ import annotations

import asyncio
from collections.abc import Sized

_QUIET_ROUNDS = 20  # of the event loop, which takes up one call a round; idle ones take microseconds
_MOMENT_SECONDS = 0.001
_MOST_MOMENTS = 50


async def until_quiet(waiting: Sized, most: int, urgent: Sized = ()) -> None:
    """Wait until nobody joins any more, or as many wait as can be served at once, or anybody is `urgent`."""
    await Gathering(waiting, urgent).until_quiet(most)


class Gathering:
    """Those who wait, and those of them who are urgent. Whoever lets somebody join tells it."""

    def __init__(self, waiting: Sized, urgent: Sized = ()) -> None:
        self._waiting, self._urgent = waiting, urgent
        self._most = 0
        self._moment: asyncio.Future[None] | None = None

    def joined(self) -> None:
        """Take note that somebody has joined: perhaps the last of those who are waited for."""
        if self._moment is not None and (self._urgent or len(self._waiting) >= self._most):
            _end(self._moment)

    async def until_quiet(self, most: int) -> None:
        """Wait until nobody joins any more, or so many wait, or anybody is urgent.

        Who comes alone waits for some idle rounds of the event loop and no longer. Where somebody joins, more are on
        their way: the loop is left to take them up, for as long as they keep coming and not for ever.
        """
        if not 0 < len(self._waiting) < most or not await self._anybody_joins():
            return
        self._most = most
        for _ in range(_MOST_MOMENTS):
            before = len(self._waiting)
            if before >= most or self._urgent:
                return
            await self._for_a_moment()
            if len(self._waiting) == before:
                return

    async def _anybody_joins(self) -> bool:
        before = len(self._waiting)
        for _ in range(_QUIET_ROUNDS):
            if self._urgent:
                return False
            await asyncio.sleep(0)
            if len(self._waiting) > before:
                return True
        return False

    async def _for_a_moment(self) -> None:
        """Let a moment pass, which is over when the last of those who are waited for has joined."""
        loop = asyncio.get_running_loop()
        moment = self._moment = loop.create_future()
        timer = loop.call_later(_MOMENT_SECONDS, _end, moment)
        try:
            await moment
        finally:
            timer.cancel()
            self._moment = None


def _end(moment: asyncio.Future[None]) -> None:
    if not moment.done():
        moment.set_result(None)
