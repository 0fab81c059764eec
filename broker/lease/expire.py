"""Record expiry. A lease is dead at its instant by itself (law 6); this only writes down what is already true."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime

from broker.lease.desk import Desk
from broker.lease.pace import in_steps
from broker.model.entry import Entry, Json, Kind
from broker.store import leases
from broker.store.transaction import Transaction

_BATCH = 100  # whose recording takes some milliseconds


async def record_expiry(desk: Desk) -> datetime | None:
    """Record all leases whose time is up, batch by batch; return the instant when the next is due, None if none is.

    Safe to run on every replica at once: each batch is chosen and closed in one transaction at the ledger's head.

    Raises:
        Refusal: LEDGER_UNAVAILABLE.
    """
    await in_steps(desk, _record_batch, _BATCH)
    return await desk.database.read(leases.next_due)


def _record_batch(transaction: Transaction) -> int:
    due = leases.due(transaction.connection, transaction.at, _BATCH)
    # The end of a revoked lease is on record already; that its time is up now is said apart.
    ended: defaultdict[str, defaultdict[str, list[Json]]] = defaultdict(lambda: defaultdict(list))
    for lease in due:
        ended[lease.tenant]["leases" if lease.revoked_index is None else "revoked"].append(lease.id)
    for tenant, ids in ended.items():
        transaction.record(
            Entry(kind=Kind.LEASES_EXPIRED, at=transaction.at, tenant=tenant, effected={"leases": [], **ids})
        )
    transaction.leases.close(lease.id for lease in due)
    return len(due)
