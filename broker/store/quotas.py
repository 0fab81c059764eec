"""SQL about how much a tenant has had in a minute.

Each minute has a row of its own: brokers whose clocks differ count in two minutes by turns, and none may begin anew
what the other has filled.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import Connection, select, text

from broker.model.clock import to_micros
from broker.store.rows import delete_some
from broker.store.schema import quotas

_WINDOW_MICROS = 60_000_000
_PUT = text(
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
    connection.execute(
        _PUT, [{"tenant": tenant, "window": window, "leases_issued": count} for tenant, count in issued.items()]
    )


def forget(connection: Connection, before: datetime, limit: int) -> int:
    """Delete the counts of minutes before an instant, at most so many; tell how many."""
    return delete_some(connection, quotas, quotas.c.window < window(before), limit)
