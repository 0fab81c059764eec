"""A revocation that cannot be recorded: the operator is told the way on, or whose verifiers accept nothing any more."""

from __future__ import annotations

from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, NoReturn

import pytest
import structlog
from sqlalchemy.exc import OperationalError

from broker import logs
from broker.model.errors import Reason, Refusal
from broker.model.principal import ANY_TENANT
from broker.model.selector import Selector, Target
from broker.revocation.feed import Feed
from broker.revocation.unrecorded import revoke_or_stop
from tests.support.feed import new_feed, running
from tests.support.outages import failing
from tests.support.world import OPERATOR, World, opened

LEAKED = Selector("acme", Target.ALL)
EVERYTHING = Selector(ANY_TENANT, Target.ALL)


@asynccontextmanager
async def broken(url: str) -> AsyncIterator[tuple[World, Feed]]:
    """Open a broker whose database answers nothing any more."""
    async with opened(url) as world:
        feed = new_feed(world)
        with failing(OperationalError):
            yield world, feed


async def refused(world: World, feed: Feed, selector: Selector, *, stop_freshness: bool) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        await revoke_or_stop(world.desk, feed, OPERATOR, selector, "leaked", None, stop_freshness=stop_freshness)
    return refusal.value


async def test_what_can_be_recorded_is_and_stops_nobody(database_url: str) -> None:
    async with opened(database_url) as world:
        feed = new_feed(world)
        rule, lock = await revoke_or_stop(world.desk, feed, OPERATOR, LEAKED, "leaked", None, stop_freshness=True)
        assert (rule.selector, lock) == (LEAKED, None)
        assert not feed.withheld.concerns("acme")


async def test_an_operator_who_did_not_ask_for_it_is_told_that_it_can_be_asked_for(database_url: str) -> None:
    async with broken(database_url) as (world, feed):
        refusal = await refused(world, feed, LEAKED, stop_freshness=False)
        assert refusal.reason is Reason.LEDGER_UNAVAILABLE
        assert refusal.hints.next.endswith("ask for or_stop_freshness (revoke --or-stop-freshness)")
        assert not feed.withheld.concerns("acme")


@pytest.mark.parametrize(
    ("selector", "whose", "others"), [(LEAKED, "no verifier of `acme`", False), (EVERYTHING, "no verifier", True)]
)
async def test_the_verifiers_whom_it_concerns_are_kept_fresh_no_more(
    database_url: str, selector: Selector, whose: str, *, others: bool
) -> None:
    async with broken(database_url) as (world, feed):
        refusal = await refused(world, feed, selector, stop_freshness=True)
        assert refusal.reason is Reason.LEDGER_UNAVAILABLE
        assert f"; in 10 seconds {whose} that listens here accepts anything" in refusal.message
        assert "ask every other broker as well" in refusal.hints.next
        assert feed.withheld.concerns("acme")
        assert feed.withheld.concerns("globex") is others


async def test_who_may_not_revoke_it_stops_nobody(database_url: str) -> None:
    async with broken(database_url) as (world, feed):
        confined = replace(OPERATOR, tenant="globex")
        with pytest.raises(Refusal) as refusal:
            await revoke_or_stop(world.desk, feed, confined, LEAKED, "leaked", None, stop_freshness=True)
        assert refusal.value.reason is Reason.TENANT_FORBIDDEN
        assert not feed.withheld.concerns("acme")


async def test_freshness_stops_though_nobody_reads_the_log(database_url: str) -> None:
    def fail(_logger: object, _method: str, _event: MutableMapping[str, Any]) -> NoReturn:
        raise BrokenPipeError

    async with opened(database_url) as world:
        feed = new_feed(world)
        async with running(feed):
            updates = feed.watch(OPERATOR, None)
            update = await anext(updates)
            structlog.configure(processors=[fail])
            try:
                with pytest.raises(BrokenPipeError):
                    feed.withhold(LEAKED)
            finally:
                logs.configure()
            with pytest.raises(Refusal) as refusal:
                feed.confirm(OPERATOR, update.session_id, update.index)
            assert refusal.value.reason is Reason.FEED_SESSION_UNKNOWN
            with pytest.raises(Refusal, match="an operator has stopped freshness"):
                await anext(updates)
