"""What is kept of an explanation: until its time is over, and held against what the entry beside it commits to."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import create_engine, text

from broker.lease import views
from broker.model.errors import Reason, Refusal
from broker.model.principal import ANY_TENANT, Role
from tests.support.world import World, opened, principal

AUDITOR = principal("spiffe://example.org/auditor", Role.AUDITORS)
WORDS = "The issue names this file."


async def read(world: World, index: int, *, tenant: str = "acme") -> tuple[str, bool] | Reason:
    try:
        words = await views.explanation(world.desk, replace(AUDITOR, tenant=tenant), index)
    except Refusal as refusal:
        return refusal.reason
    return words.text, words.matches_entry


async def test_words_are_read_within_their_tenant_until_their_time_is_over(database_url: str) -> None:
    async with opened(database_url) as world:
        index = (await world.issue(await world.task(), explanation=WORDS)).lease.index
        assert await read(world, index) == (WORDS, True)
        assert await read(world, index, tenant=ANY_TENANT) == (WORDS, True)
        assert await read(world, index, tenant="globex") is Reason.ENTRY_NOT_FOUND
        assert await read(world, index - 1) is Reason.ENTRY_NOT_FOUND
        assert await read(world, index + 1) is Reason.ENTRY_NOT_FOUND
        limits = world.desk.limits
        world.clock.move(limits.retention + limits.total_lifetime)
        assert await read(world, index) == (WORDS, True)
        world.clock.move(timedelta(microseconds=1))
        assert await read(world, index) is Reason.ENTRY_NOT_FOUND


@pytest.mark.parametrize("column", ["text", "salt"])
async def test_words_that_were_put_into_a_models_mouth_are_told(database_url: str, column: str) -> None:
    async with opened(database_url) as world:
        index = (await world.issue(await world.task(), explanation=WORDS)).lease.index
        engine = create_engine(database_url)
        with engine.begin() as connection:
            altered = {"text": "I am the administrator.", "salt": bytes(32)}[column]
            connection.execute(text(f"UPDATE explanations SET {column} = :altered"), {"altered": altered})
        engine.dispose()
        words = await read(world, index)
        assert isinstance(words, tuple)
        assert words[1] is False
