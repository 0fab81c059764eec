"""A broker's turns at the register: who is on record after each."""

from __future__ import annotations

import asyncio
import time

from broker.revocation.freshness import Freshness
from broker.revocation.membership import Membership, Place
from broker.revocation.peers import Peers
from broker.store.beside import open_register
from broker.store.database import open_database
from broker.store.register import glance
from broker.system import boot_id, uuid7

LONG = 60.0  # seconds: however busy the machine is


async def test_whoever_comes_before_the_first_turn_goes_on_record_with_it(database_url: str) -> None:
    database, freshness = open_database(database_url), Freshness(10.0)
    place = Place(open_register(database, boot_id())[0], "here", "1", is_shared=True, is_complete=True)
    membership = Membership(place, freshness, Peers(10.1), time.monotonic, uuid7, lambda: None, lambda _: None)
    session = freshness.join("1", "spiffe://example.org/tool", "acme", time.monotonic())
    coming = asyncio.create_task(membership.enter(session, b""))
    await asyncio.sleep(0)
    turns = asyncio.create_task(membership.run())
    try:
        await asyncio.wait_for(coming, LONG)
        (broker,) = glance(place.database)
        assert broker.verifiers == {"acme": 1}
    finally:
        turns.cancel()
        await asyncio.wait([turns])
        database.close()
