"""A broker's revocation feed without its doors, and a verifier that listens to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from broker.model.principal import Role
from broker.model.selector import RevocationRule
from broker.revocation.feed import Feed
from broker.revocation.publishing import Update
from tests.support.world import OPERATOR

VERIFIER = replace(OPERATOR, id="spiffe://example.org/verifier", roles=frozenset({Role.VERIFIERS}))


@asynccontextmanager
async def running(feed: Feed) -> AsyncIterator[asyncio.Task[None]]:
    """Run a feed for the time of a block."""
    task = asyncio.create_task(feed.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def published(updates: AsyncIterator[Update], rule: RevocationRule) -> None:
    """Wait until a rule comes among the updates."""
    async for update in updates:
        if rule.index in [news.index for news in update.rules]:
            return
