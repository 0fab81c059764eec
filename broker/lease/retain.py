"""Forget what has been kept long enough. The ledger itself is never shortened."""

from __future__ import annotations

from broker.lease.desk import Desk
from broker.store import explanations, leases, locks, quotas, requests, rules, tasks
from broker.store.transaction import Transaction, Work

_BATCH = 1_000


async def forget_old(desk: Desk) -> int:
    """Delete ended leases, rules, request ids, lifted locks and explanations past retention; give the leases' number.

    In small transactions, so that nobody waits long; safe to run on every replica at once.
    """
    total = 0
    while True:
        forgotten = await desk.ledger.write(Work(lambda transaction: _forget_batch(desk, transaction)))
        total += forgotten
        if forgotten < _BATCH:
            return total


def _forget_batch(desk: Desk, transaction: Transaction) -> int:
    connection, now = transaction.connection, transaction.at
    before = now - desk.limits.retention
    forgotten = leases.forget(connection, before, _BATCH)
    if forgotten < _BATCH:
        # A rule is kept for as long as the leases it ended, so that their state can still be told.
        rules.forget(connection, before - desk.limits.total_lifetime)
        locks.forget(connection, before)
        requests.forget(connection, now)
        tasks.forget_agents(connection, before)
        explanations.forget(connection, now)
        quotas.forget(connection, before)
    return forgotten
