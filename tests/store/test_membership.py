"""A broker's turns at the register: who is on record after each, and what is known when it went back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from sqlalchemy import text

from broker.revocation.freshness import Freshness
from broker.revocation.membership import Membership, Place
from broker.revocation.peers import Peers
from broker.store.beside import open_register
from broker.store.database import Database, open_database
from broker.store.register import glance
from broker.system import boot_id, uuid7

LONG = 60.0  # seconds: however busy the machine is
WINDOW = 10.0


@dataclass
class Member:
    """A broker in the register; `heard` is set after each of its turns."""

    register: Database
    freshness: Freshness = field(default_factory=lambda: Freshness(WINDOW))
    peers: Peers = field(default_factory=lambda: Peers(WINDOW))
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        place = Place(self.register, "here", "1", is_shared=True, is_complete=True)
        self.membership = Membership(
            place, self.freshness, self.peers, time.monotonic, uuid7, self.heard.set, lambda _: None
        )

    @asynccontextmanager
    async def taking_turns(self) -> AsyncIterator[None]:
        turns = asyncio.create_task(self.membership.run())
        try:
            yield
        finally:
            turns.cancel()
            await asyncio.wait([turns])

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(LONG):
            while not condition():
                self.heard.clear()
                self.membership.wake()
                await self.heard.wait()


@pytest.fixture
async def member(database_url: str) -> AsyncIterator[Member]:
    database = open_database(database_url)
    register, _ = open_register(database, boot_id())
    yield Member(register)
    database.close()


async def test_whoever_comes_before_the_first_turn_goes_on_record_with_it(member: Member) -> None:
    session = member.freshness.join("1", "spiffe://example.org/tool", "acme", time.monotonic())
    coming = asyncio.create_task(member.membership.enter(session, b""))
    await asyncio.sleep(0)
    async with member.taking_turns():
        await asyncio.wait_for(coming, LONG)
        (broker,) = glance(member.register)
        assert broker.verifiers == {"acme": 1}


@pytest.mark.parametrize(
    "lost", ["UPDATE brokers SET beat = beat - 1", "DELETE FROM brokers"], ids=["what it said last", "all of it"]
)
async def test_where_the_register_went_back_there_may_be_anybody_for_a_window(member: Member, lost: str) -> None:
    async with member.taking_turns():
        await member.until(lambda: bool(glance(member.register)))
        assert member.peers.strangers_until < time.monotonic()
        with member.register.transaction() as connection:
            connection.execute(text(lost))
        await member.until(lambda: member.peers.strangers_until > time.monotonic())
        await member.until(lambda: bool(glance(member.register)))
