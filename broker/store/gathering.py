"""Waiting for a moment, so that those who come at the same time are served together."""

from __future__ import annotations

import asyncio
from collections.abc import Sized

_QUIET_ROUNDS = 20  # of the event loop, which takes up one call a round; idle ones take microseconds
_MOMENT_SECONDS = 0.001
_MOST_MOMENTS = 50


async def until_quiet(waiting: Sized, most: int, urgent: Sized = ()) -> None:
    """Wait until nobody joins any more, or as many wait as can be served at once, or anybody is `urgent`.

    Who comes alone waits for some idle rounds of the event loop and no longer. Where somebody joins, more are on their
    way: the loop is left to take them up, for as long as they keep coming and not for ever.
    """
    if not 0 < len(waiting) < most or not await _anybody_joins(waiting, urgent):
        return
    for _ in range(_MOST_MOMENTS):
        before = len(waiting)
        if before >= most or urgent:
            return
        await asyncio.sleep(_MOMENT_SECONDS)
        if len(waiting) == before:
            return


async def _anybody_joins(waiting: Sized, urgent: Sized) -> bool:
    before = len(waiting)
    for _ in range(_QUIET_ROUNDS):
        if urgent:
            return False
        await asyncio.sleep(0)
        if len(waiting) > before:
            return True
    return False
