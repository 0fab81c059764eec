"""A broker's revocation feed without its doors, and a verifier that listens to it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from broker.model.principal import Role
from broker.model.selector import RevocationRule
from broker.revocation.feed import Feed
from broker.revocation.membership import Place
from broker.revocation.publishing import Update
from broker.store.beside import open_register
from broker.system import boot_id, uuid7
from tests.support.world import OPERATOR, World

VERIFIER = replace(OPERATOR, id="spiffe://example.org/verifier", roles=frozenset({Role.VERIFIERS}))


def new_feed(world: World, monotonic: Callable[[], float] = time.monotonic, name: str = "here") -> Feed:
    """Make the feed of a broker, with a register as complete as a new database's."""
    database = world.desk.database
    register, _ = open_register(database, boot_id())
    place = Place(register, name, "1", is_shared=database.is_shared, is_complete=True)
    return Feed(database, world.follower, place, monotonic, uuid7, partial(os.urandom, 32))


@asynccontextmanager
async def running(feed: Feed) -> AsyncIterator[asyncio.Task[None]]:
    """Run a feed for the time of a block; yield the part that follows the ledger."""
    tasks = {name: asyncio.create_task(part, name=name) for name, part in feed.parts().items()}
    try:
        yield tasks["feed"]
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


async def published(updates: AsyncIterator[Update], rule: RevocationRule) -> None:
    """Wait until a rule comes among the updates."""
    async for update in updates:
        if rule.index in [news.index for news in update.rules]:
            return
