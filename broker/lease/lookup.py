"""Finding leases for many callers at once: those who ask while the database is read share the next look."""

from __future__ import annotations

import asyncio
from itertools import islice

from broker.model.lease import Lease
from broker.store import leases
from broker.store.database import Database
from broker.store.gathering import until_quiet

_MOST_AT_ONCE = 1_000

Asked = asyncio.Future[Lease | None]


class LeaseLookup:
    """Reads leases as they are: each look begins after it was asked for. It lives on the event loop."""

    def __init__(self, database: Database) -> None:
        """Make a lookup over a database."""
        self._database = database
        self._asked: dict[str, Asked] = {}
        self._reading: asyncio.Task[None] | None = None

    async def find(self, lease_id: str) -> Lease | None:
        """Find a lease, with the rule that ended it, if any.

        Raises:
            Refusal: LEDGER_UNAVAILABLE, if the database cannot be reached.
        """
        asked = self._asked.get(lease_id)
        if asked is None:
            asked = self._asked[lease_id] = asyncio.get_running_loop().create_future()
            asked.add_done_callback(_seen)
            if self._reading is None:
                self._reading = asyncio.create_task(self._read())
        return await asyncio.shield(asked)  # who goes away takes it from nobody else

    async def _read(self) -> None:
        try:
            while self._asked:
                await until_quiet(self._asked, _MOST_AT_ONCE)
                some = {lease_id: self._asked.pop(lease_id) for lease_id in [*islice(self._asked, _MOST_AT_ONCE)]}
                await self._answer(some)
        finally:
            self._reading = None

    async def _answer(self, some: dict[str, Asked]) -> None:
        try:
            found = await self._database.glance(lambda connection: leases.fetch(connection, some))
        except Exception as error:  # noqa: BLE001 (it is the callers', and they want theirs)
            for asked in some.values():
                asked.set_exception(error)
            return
        for lease_id, asked in some.items():
            asked.set_result(found.get(lease_id))


def _seen(asked: Asked) -> None:
    """Look at a failure for which nobody may be waiting any more."""
    if not asked.cancelled():
        asked.exception()
