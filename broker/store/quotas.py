"""SQL about how much a tenant has had in the running minute."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import Connection, select, text

from broker.store.schema import quotas

_PUT = text(
    """
    INSERT INTO quotas (tenant, "window", leases_issued) VALUES (:tenant, :window, :leases_issued)
    ON CONFLICT (tenant) DO UPDATE SET "window" = excluded."window", leases_issued = excluded.leases_issued
    """
)


def fetch(connection: Connection, tenants: Collection[str], window: int) -> dict[str, int]:
    """Tell how many leases tenants were issued in a minute; those without any are left out."""
    query = select(quotas.c.tenant, quotas.c.leases_issued).where(
        quotas.c.tenant.in_(tenants), quotas.c.window == window
    )
    return {row.tenant: row.leases_issued for row in connection.execute(query)}


def put(connection: Connection, issued: Mapping[str, int], window: int) -> None:
    """Note how many leases tenants were issued in a minute."""
    connection.execute(
        _PUT, [{"tenant": tenant, "window": window, "leases_issued": count} for tenant, count in issued.items()]
    )
