"""Introspect a token: what the broker itself says of it now (RFC 7662)."""

from __future__ import annotations

from dataclasses import dataclass

from broker.credential import jose
from broker.credential.claims import Claims
from broker.credential.keys import KeySet
from broker.lease.desk import Desk
from broker.lease.release import behind
from broker.model.errors import Refusal
from broker.model.lease import Lease, LeaseState
from broker.model.principal import Principal
from broker.store import leases
from broker.store.ledger import LedgerMismatch
from broker.store.proofs import newest_head


@dataclass(frozen=True, slots=True)
class Introspected:
    """A token that is good now: what it says, and its lease."""

    claims: Claims
    lease: Lease


async def introspect(desk: Desk, caller: Principal, keys: KeySet, token: str) -> Introspected | None:
    """Look a token up that is for a resource of the caller's; None for any that is not good, whatever is wrong.

    Raises:
        Refusal: LEDGER_UNAVAILABLE; UNAVAILABLE, while freshness is stopped.
    """
    try:
        claims = jose.decode(token, keys)
    except Refusal:
        return None
    now = desk.clock()
    if claims.issuer != desk.issuer or now >= claims.expires_at:
        return None
    if not caller.may_see(claims.tenant) or claims.audience not in caller.resources:
        return None
    desk.withheld.check(claims.tenant)
    try:
        ended_by, lease, next_index = await desk.database.read(
            lambda connection: (
                # First, before the connection has taken its view: the writer may go on meanwhile.
                desk.ledger.follow(connection).ended_by(claims.selectors(), claims.index),
                leases.fetch(connection, [claims.lease_id]).get(claims.lease_id),
                newest_head(connection).next_index,
            )
        )
    except LedgerMismatch as error:
        raise error.refusal() from error
    if claims.index >= next_index:
        raise behind(desk, claims.index)
    if lease is None or ended_by is not None or lease.state(now) is not LeaseState.LIVE:
        return None
    return Introspected(claims, lease)
