"""Do the effects that transactions have asked for: each as often as it takes, by any broker of a database.

1. A try is counted, and when the next may begin is written down, before it begins: whoever dies at it is followed.
2. One that takes too long is left alone and counts as failed. It may still come to its end: doing it twice is the same.
3. After each failure the pause doubles; after the last the effect is given up, which the log says loudly.
4. Each kind has a loop of its own: one that hangs holds up no other, and nobody who calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

import structlog

from broker.model.clock import Clock
from broker.model.errors import Refusal
from broker.store import effects
from broker.store.database import Database
from broker.store.effects import OutsideEffect
from broker.store.transaction import Change, Transaction
from broker.store.writer import Writer

T = TypeVar("T")

MOST_TRIES = 12  # in some six hours
LONGEST_TRY = timedelta(seconds=30)
_FIRST_PAUSE = timedelta(seconds=60)  # longer than a try, so that no two are under way
LONGEST_PAUSE = timedelta(hours=1)
_SOONEST = timedelta(seconds=1)
_LATEST = timedelta(seconds=15)  # another broker may have asked for something since

Doer = Callable[[OutsideEffect], Awaitable[None]]
"""Does an effect, or raises what its failure says of itself."""


def pause(tried: int) -> timedelta:
    """Return how long after the beginning of a try the next may begin."""
    return min(_FIRST_PAUSE * (1 << min(tried - 1, MOST_TRIES)), LONGEST_PAUSE)


class EffectRunner:
    """Does the effects of the kinds that it has somebody for. Any number of brokers may run one on a database."""

    def __init__(
        self,
        ledger: Writer,
        database: Database,
        clock: Clock,
        doers: Mapping[str, Doer],
        longest_try: timedelta = LONGEST_TRY,
    ) -> None:
        """Make one; `run` brings it to life."""
        self._ledger = ledger
        self._database = database
        self._clock = clock
        self._doers = doers
        self._longest_try = longest_try
        self._log = structlog.get_logger("effects")

    async def run(self) -> None:
        """Do what is due whenever it is, until cancelled."""
        async with asyncio.TaskGroup() as kinds:
            for kind in self._doers:
                kinds.create_task(self._run(kind), name=f"effects {kind}")
            await asyncio.Event().wait()

    async def do_due(self, kind: str) -> datetime | None:
        """Do everything of a kind that is due; return when the next of it is, None if nothing is to come.

        Raises:
            Refusal: LEDGER_UNAVAILABLE, UNAVAILABLE. What was begun is due again.
        """
        while (effect := await self._at_head(partial(self._claim, kind))) is not None:
            # Its turn is written down. A crash from here on leaves an effect, done or not, that is due after a pause.
            if effect.tried > MOST_TRIES:
                await self._give_up(effect, "each try was begun and came to no end")
                continue
            problem = await self._try(effect)
            if problem is None:
                # Done, and nobody knows. A crash here has it done twice.
                await self._at_head(partial(self._done, effect))
            elif effect.tried == MOST_TRIES:
                await self._give_up(effect, problem)
            else:
                self._log.warning("effects.failed", effect=effect.id, tried=effect.tried, problem=problem)
                await self._at_head(partial(self._failed, effect, problem))
        return await self._database.read(lambda connection: effects.next_due(connection, kind))

    async def _run(self, kind: str) -> None:
        while True:
            due = None
            try:
                due = await self.do_due(kind)
            except Refusal as refusal:
                self._log.warning("effects.not_done", kind=kind, reason=refusal.reason.value)
            wait = _LATEST if due is None else min(max(due - self._clock(), _SOONEST), _LATEST)
            await asyncio.sleep(wait.total_seconds())

    async def _try(self, effect: OutsideEffect) -> str | None:
        """Try once; return why it failed, None if it did not."""
        limit = asyncio.timeout(self._longest_try.total_seconds())
        try:
            async with limit:
                await self._doers[effect.kind](effect)
        except Exception as error:  # noqa: BLE001 (whatever is out there and fails, it is tried again and said)
            if limit.expired():
                return f"it was not done within {self._longest_try.total_seconds():g} s"
            return f"{type(error).__name__}: {error}"
        return None

    async def _give_up(self, effect: OutsideEffect, problem: str) -> None:
        if await self._at_head(partial(self._given_up, effect, problem)):
            self._log.critical("effects.given_up", effect=effect.id, tried=effect.tried, problem=problem)

    async def _at_head(self, step: Callable[[Transaction], T]) -> T:
        return await self._ledger.write(Change(step))

    @staticmethod
    def _claim(kind: str, transaction: Transaction) -> OutsideEffect | None:
        return effects.claim(transaction.connection, kind, transaction.at, pause)

    @staticmethod
    def _done(effect: OutsideEffect, transaction: Transaction) -> bool:
        return effects.done(transaction.connection, effect, transaction.at)

    @staticmethod
    def _failed(effect: OutsideEffect, problem: str, transaction: Transaction) -> None:
        effects.failed(transaction.connection, effect, problem)

    @staticmethod
    def _given_up(effect: OutsideEffect, problem: str, transaction: Transaction) -> bool:
        return effects.give_up(transaction.connection, effect, problem, transaction.at)
