"""Finding leases for many callers at once: those who ask while the database is read share the next look."""

from __future__ import annotations

import asyncio
from itertools import islice

from broker.model.lease import Lease
from broker.store import leases
from broker.store.database import Database
from broker.store.gathering import until_quiet

_MOST_AT_ONCE = 1_000

Waiting = asyncio.Future[Lease | None]


class LeaseLookup:
    """Reads leases as they are: each look begins after it was asked for. It lives on the event loop."""

    def __init__(self, database: Database) -> None:
        """Make a lookup over a database."""
        self._database = database
        self._waiting: dict[str, Waiting] = {}
        self._reading: asyncio.Task[None] | None = None

    async def find(self, lease_id: str) -> Lease | None:
        """Find a lease, with the rule that ended it, if any.

        Raises:
            Refusal: LEDGER_UNAVAILABLE, if the database cannot be reached.
        """
        waiting = self._waiting.get(lease_id)
        if waiting is None:
            waiting = self._waiting[lease_id] = asyncio.get_running_loop().create_future()
            waiting.add_done_callback(Waiting.exception)  # a failure is looked at, though nobody may wait any more
            if self._reading is None:
                self._reading = asyncio.create_task(self._read())
        return await asyncio.shield(waiting)  # who goes away takes it from nobody else

    async def _read(self) -> None:
        try:
            while self._waiting:
                await until_quiet(self._waiting, _MOST_AT_ONCE)
                some = {lease_id: self._waiting.pop(lease_id) for lease_id in [*islice(self._waiting, _MOST_AT_ONCE)]}
                await self._answer(some)
        finally:
            self._reading = None

    async def _answer(self, some: dict[str, Waiting]) -> None:
        try:
            by_id = await self._database.glance(lambda connection: leases.fetch(connection, some))
        except Exception as error:  # noqa: BLE001 (it is the callers', and they want theirs)
            for waiting in some.values():
                waiting.set_exception(error)
            return
        for lease_id, waiting in some.items():
            waiting.set_result(by_id.get(lease_id))
