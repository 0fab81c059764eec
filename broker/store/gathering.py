"""Waiting for a moment, so that those who come at the same time are served together."""

from __future__ import annotations

import asyncio
from collections.abc import Sized

_QUIET_ROUNDS = 20  # of the event loop, which takes up one call a round; idle ones take microseconds


async def until_quiet(waiting: Sized, most: int) -> None:
    """Wait until nobody has joined for some rounds of the event loop, or as many wait as can be served at once."""
    quiet = 0
    while quiet < _QUIET_ROUNDS and (before := len(waiting)) < most:
        await asyncio.sleep(0)
        quiet = 0 if len(waiting) > before else quiet + 1
