"""Take our SVID and the trust bundles anew when their source has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from broker.model.clock import Clock
from broker.trust.source import SvidSource

_SECONDS = 1.0


async def refresh(source: SvidSource, clock: Clock, renewed: Callable[[], None]) -> None:
    """Look every second, until cancelled. `renewed` is told of whatever may have changed."""
    log = structlog.get_logger("identity")
    problem: str | None = None
    ended = False
    while True:
        await asyncio.sleep(_SECONDS)
        if await asyncio.to_thread(source.refresh):
            log.info("identity.refreshed", generation=source.material.generation)
        renewed()
        if source.problem != problem:
            problem = source.problem
            if problem:
                log.error("identity.not_refreshed", problem=problem)
        if (clock() >= source.material.not_after) != ended:
            ended = not ended
            if ended:
                log.error("identity.ended", problem="we have no identity any more, so nobody is served")
