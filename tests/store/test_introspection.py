"""What the broker says of a token now: nothing, whatever is wrong with it, or who asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from broker.credential import jose
from broker.lease.introspect import introspect
from broker.lease.token import Issued
from broker.model.errors import Reason, Refusal
from broker.model.principal import ANY_TENANT, Role
from broker.model.selector import Selector, Target
from tests.support.world import NOTES, REPO, World, opened, principal

CALLER = replace(principal("spiffe://example.org/tools/repo", Role.VERIFIERS), resources=frozenset({REPO}))


@asynccontextmanager
async def issued(url: str) -> AsyncIterator[tuple[World, Issued]]:
    async with opened(url) as world:
        yield world, await world.issue(await world.task())


async def test_a_token_that_is_good_is_said_to_be_with_its_lease(database_url: str) -> None:
    async with issued(database_url) as (world, one):
        for caller in (CALLER, replace(CALLER, tenant=ANY_TENANT)):
            said = await introspect(world.desk, caller, world.keys, one.token)
            assert said is not None
            assert said.claims == jose.decode(one.token, world.keys)
            assert said.lease.id == one.lease.id


async def test_nothing_is_said_of_what_is_no_token(database_url: str) -> None:
    async with issued(database_url) as (world, one):
        for text in ("", "x", "a.b.c", one.token[:-1], f"{one.token}A", "x" * 300_000):
            assert await introspect(world.desk, CALLER, world.keys, text) is None


async def test_nothing_is_said_to_whom_it_does_not_concern(database_url: str) -> None:
    async with issued(database_url) as (world, one):
        for caller in (replace(CALLER, tenant="globex"), replace(CALLER, resources=frozenset({NOTES}))):
            assert await introspect(world.desk, caller, world.keys, one.token) is None


async def test_nothing_is_said_of_another_brokers_token_or_one_that_has_expired(database_url: str) -> None:
    async with issued(database_url) as (world, one):
        other = replace(jose.decode(one.token, world.keys), issuer="https://other.example")
        assert await introspect(world.desk, CALLER, world.keys, jose.encode(other, world.desk.signer())) is None
        world.clock.move(timedelta(hours=1))
        assert await introspect(world.desk, CALLER, world.keys, one.token) is None


async def test_nothing_is_said_of_what_has_ended(database_url: str) -> None:
    async with issued(database_url) as (world, one):
        await world.release(one)
        assert await introspect(world.desk, CALLER, world.keys, one.token) is None


async def test_while_freshness_is_stopped_the_broker_does_not_say_it_either(database_url: str) -> None:
    async with issued(database_url) as (world, one):
        world.desk.withheld.add(Selector("acme", Target.ALL))
        with pytest.raises(Refusal) as refused:
            await introspect(world.desk, CALLER, world.keys, one.token)
        assert refused.value.reason is Reason.UNAVAILABLE


async def test_a_broker_that_is_shown_a_token_from_beyond_its_ledger_knows_that_it_is_behind(database_url: str) -> None:
    async with issued(database_url) as (world, one):
        beyond = replace(jose.decode(one.token, world.keys), index=1_000)
        for token in (jose.encode(beyond, world.desk.signer()), one.token):  # from then on, of any token
            with pytest.raises(Refusal) as refused:
                await introspect(world.desk, CALLER, world.keys, token)
            assert refused.value.reason is Reason.LEDGER_UNAVAILABLE
            assert "is not the one that this broker has signed" in refused.value.message
