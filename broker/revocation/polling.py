"""Looking at the ledger for new rules, again and again: woken by our own writer, or else by the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog

from broker.model.errors import Refusal
from broker.model.selector import RevocationRule
from broker.revocation.freshness import Freshness
from broker.store.database import Database
from broker.store.follower import Follower
from broker.store.ledger import LedgerMismatch

_SECONDS = 0.25  # how late another broker's rule may be noticed
_FILE_SECONDS = 1.0  # by how much less than a window a verifier may be made fresh
_BEHIND_SECONDS = 3.0


class Poller:
    """Notes each look in `freshness`, and hands rules that are new to `publish`. It has a connection of its own."""

    def __init__(
        self,
        database: Database,
        follower: Follower,
        freshness: Freshness,
        publish: Callable[[Sequence[RevocationRule]], None],
        monotonic: Callable[[], float],
    ) -> None:
        """Make a poller; `run` brings it to life."""
        # A file, too, is looked at without being woken: a commit that was reported as failed may have succeeded.
        self._seconds = _SECONDS if database.is_shared else _FILE_SECONDS
        self._database = database.apart("feed")
        self._follower = follower
        self._freshness = freshness
        self._publish = publish
        self._monotonic = monotonic
        self._born = monotonic()
        self._wake = asyncio.Event()
        self.first_look = asyncio.Event()

    async def run(self, available: Callable[[], None]) -> None:
        """Look, until cancelled. `available` is called when the database answers again, after it did not.

        Goes on over a ledger that cannot be read, or is behind: nobody is kept fresh by it meanwhile.
        """
        log, reachable = structlog.get_logger("feed"), True
        try:
            while True:
                try:
                    await self.look()
                except (Refusal, LedgerMismatch) as error:
                    if reachable:
                        log.warning("feed.database_unavailable", problem=str(error))
                    reachable = False
                    await asyncio.sleep(_SECONDS)
                    continue
                if not reachable:
                    reachable = True
                    log.info("feed.database_available")
                    available()
                await wait(self._wake, self._seconds)
        finally:
            self._database.close()

    async def look(self) -> None:
        """Follow the ledger, and publish the rules that are new.

        Raises:
            Refusal: LEDGER_UNAVAILABLE.
            LedgerMismatch: it is not the ledger that we have signed, or is behind it.
        """
        began, newest = self._monotonic(), self._freshness.newest
        await self._database.read(self._follower.catch_up)
        in_force = self._follower.in_force
        rules = [] if newest is None else in_force.rules(after=newest)
        self._freshness.looked(began, in_force.last_rule if newest is None else _last(rules, newest))
        self._publish(rules)
        self.first_look.set()

    def wake(self) -> None:
        """Look at once: rules may have been recorded."""
        self._wake.set()

    def problem(self) -> str | None:
        """Return what is wrong, if no look has succeeded for some time."""
        behind = self._monotonic() - max(self._freshness.began, self._born)
        return None if behind < _BEHIND_SECONDS else "the revocation rules cannot be read"


async def wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, or for so long; then clear it."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):  # unlike `wait_for`, it waits from this moment on, and misses nothing
            await event.wait()
    event.clear()


def _last(rules: Sequence[RevocationRule], before: int) -> int:
    return rules[-1].index if rules else before
