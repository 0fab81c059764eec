"""Introspect a token: what the broker itself says of it now (RFC 7662)."""

from __future__ import annotations

from broker.credential import jose
from broker.credential.keys import KeySet
from broker.lease.desk import Desk
from broker.model.errors import Refusal
from broker.model.lease import Lease, LeaseState
from broker.model.principal import Principal
from broker.store import leases


async def introspect(desk: Desk, caller: Principal, keys: KeySet, token: str) -> Lease | None:
    """Give the lease of a token that is good now; None for any other, whatever is wrong with it."""
    try:
        claims = jose.decode(token, keys)
    except Refusal:
        return None
    now = desk.clock()
    if claims.issuer != desk.issuer or now >= claims.expires_at or not caller.may_see(claims.tenant):
        return None
    found = await desk.database.read(lambda connection: leases.fetch(connection, [claims.lease_id]))
    lease = found.get(claims.lease_id)
    return lease if lease is not None and lease.state(now) is LeaseState.LIVE else None
