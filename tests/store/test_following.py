"""Threads follow one ledger side by side: whoever has looked stands where it was when it looked, whatever others do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection

from broker.model.selector import Selector, Target
from broker.store import ledger
from broker.store.database import Database, open_database
from broker.store.follower import Follower, Position, Tail
from tests.support.deployment import Deployment


class Overtaken(Follower):
    """Goes on by what another thread has read before, just when it has read more itself, or is about to read."""

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(deployment.note_key.vkey)
        self.of_another: list[Tail] = []
        self.of_a_third: list[Tail] = []

    def read(self, connection: Connection, start: Position | None = None) -> Tail:
        if start is not None:
            self.overtake(self.of_a_third)
        tail = super().read(connection, start)
        self.overtake(self.of_another)
        return tail

    def overtake(self, tails: list[Tail]) -> None:
        while tails:
            assert self.apply(tails.pop(0))


@pytest.fixture
def database(deployment: Deployment) -> Iterator[Database]:
    database = open_database(deployment.url)
    yield database
    database.close()


async def test_a_look_that_is_overtaken_by_an_older_one_looks_again(deployment: Deployment, database: Database) -> None:
    follower = Overtaken(deployment)
    async with deployment.opened() as world:
        issued = await world.issue(await world.task())
        follower.of_another = [database.read_now(follower.read)]
        rule = await world.revoke(Selector("acme", Target.LEASE, issued.lease.id))
        end = world.follower.position
    database.read_now(follower.catch_up)
    assert follower.position == end
    assert [found.index for found in follower.in_force.rules(after=-1)] == [rule.index]


async def test_a_look_that_is_overtaken_by_a_newer_one_is_over(deployment: Deployment, database: Database) -> None:
    follower, ahead = Overtaken(deployment), Follower(deployment.note_key.vkey)
    async with deployment.opened() as world:
        await world.task()
        database.read_now(ahead.catch_up)
        follower.of_another = [database.read_now(follower.read)]
        end = world.follower.position
    database.read_now(follower.catch_up)
    assert follower.position == ahead.position == end


async def test_a_look_that_is_overtaken_again_and_sees_what_is_old_is_over(
    deployment: Deployment, database: Database
) -> None:
    follower, ahead = Overtaken(deployment), Follower(deployment.note_key.vkey)
    async with deployment.opened() as world:
        await world.task()
        follower.of_another = [database.read_now(ahead.read)]
        database.read_now(ahead.catch_up)
        await world.task()
        with database.snapshot() as old:
            follower.shown(ledger.head(old).note)  # type: ignore[union-attr]  # there is one, and the snapshot begins
            await world.task()
            follower.of_a_third = [database.read_now(ahead.read)]
            follower.follow(old)
        end = world.follower.position
    assert follower.position == end


async def test_brokers_and_their_feeds_write_and_follow_side_by_side(
    deployment: Deployment, database: Database
) -> None:
    """The writer signs at the head that it holds, though its feed has gone on meanwhile by an older one."""
    async with deployment.opened() as one, deployment.opened() as other:
        for _ in range(3):
            await one.task()
            older = database.read_now(other.follower.read)
            await one.task()

            def read(connection: Connection, start: Position | None = None, older: Tail = older) -> Tail:
                tail = Follower.read(other.follower, connection, start)
                other.follower.apply(older)
                return tail

            other.follower.read = read  # type: ignore[method-assign]
            await other.task()
    assert deployment.problems() == []
