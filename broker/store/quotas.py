"""SQL about how much a tenant has had in a minute.

Each minute has a row of its own: brokers whose clocks differ count in two minutes by turns, and none may begin anew
what the other has filled.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import Connection, select

from broker.model.clock import to_micros
from broker.store.aggregate import Aggregate, AtHead, Named
from broker.store.rows import Sql, delete_some
from broker.store.schema import quotas
from broker.store.tasks import Tasks

_WINDOW_MICROS = 60_000_000
_PUT = Sql(
    """
    INSERT INTO quotas (tenant, "window", leases_issued) VALUES (:tenant, :window, :leases_issued)
    ON CONFLICT (tenant, "window") DO UPDATE SET leases_issued = excluded.leases_issued
    """
)


def window(at: datetime) -> int:
    """Return the number of the minute in which an instant is."""
    return to_micros(at) // _WINDOW_MICROS


def fetch(connection: Connection, tenants: Collection[str], window: int) -> dict[str, int]:
    """Report how many leases tenants were issued in a minute; those without any are left out."""
    query = select(quotas.c.tenant, quotas.c.leases_issued).where(
        quotas.c.tenant.in_(tenants), quotas.c.window == window
    )
    return {row.tenant: row.leases_issued for row in connection.execute(query)}


def put(connection: Connection, issued: Mapping[str, int], window: int) -> None:
    """Note how many leases tenants were issued in a minute."""
    rows = [{"tenant": tenant, "window": window, "leases_issued": count} for tenant, count in issued.items()]
    _PUT.run(connection, *rows)


def forget(connection: Connection, before: datetime, limit: int) -> int:
    """Delete the counts of minutes before an instant, at most so many; report how many."""
    return delete_some(connection, quotas, quotas.c.window < window(before), limit)


class Quotas(Aggregate):
    """What tenants were issued in the minute of a transaction, `window`."""

    def __init__(self, head: AtHead, tasks: Tasks, kept: Mapping[str, int], kept_window: int) -> None:
        """Begin with what the transaction before has kept, if it was in the same minute."""
        self.window = window(head.at)
        self._head = head
        self._tasks = tasks
        self._issued = dict(kept) if kept_window == self.window else {}
        self._changed: dict[str, int] = {}

    def issued(self, tenant: str) -> int:
        """Report how many leases the tenant of a named task was issued in the running minute."""
        return self._issued.get(tenant, 0)

    def count_lease(self, tenant: str) -> None:
        """Count a new lease."""
        self._issued[tenant] = self._changed[tenant] = self.issued(tenant) + 1

    def prefetch(self, named: Collection[Named]) -> None:
        """Read the counts of the tenants of the tasks that changes have named."""
        if tenants := self._tasks.tenants(named) - self._issued.keys():
            self._issued |= dict.fromkeys(tenants, 0) | fetch(self._head.connection, tenants, self.window)

    def write(self) -> None:
        """Write the counts that have changed."""
        if self._changed:
            put(self._head.connection, self._changed, self.window)

    def kept(self) -> Mapping[str, int]:
        """Return what the next transaction of the same minute need not read."""
        return self._issued
