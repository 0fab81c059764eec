"""Forget what has been kept long enough. The ledger itself is never shortened."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from broker.lease.desk import Desk
from broker.lease.pace import in_steps
from broker.store import explanations, leases, locks, quotas, requests, rules, tasks
from broker.store.rows import Forget
from broker.store.transaction import Transaction

_BATCH = 200


async def forget_old(desk: Desk) -> int:
    """Delete ended leases, rules, request ids, lifted locks and explanations past retention; give the leases' number.

    In small steps, so that nobody waits long; safe to run on every replica at once.

    Raises:
        Refusal: LEDGER_UNAVAILABLE.
    """
    limits = desk.limits
    kept: tuple[tuple[Forget, timedelta], ...] = (
        # A rule is kept for as long as the leases it ended, so that their state can still be told.
        (rules.forget, limits.retention + limits.total_lifetime),
        (locks.forget, limits.retention),
        (requests.forget, timedelta()),
        (tasks.forget_agents, limits.retention),
        (explanations.forget, timedelta()),
        (quotas.forget, limits.retention),
    )
    forgotten = await in_steps(desk, partial(_forget_batch, leases.forget, limits.retention), _BATCH)
    for forget, age in kept:
        await in_steps(desk, partial(_forget_batch, forget, age), _BATCH)
    return forgotten


def _forget_batch(forget: Forget, age: timedelta, transaction: Transaction) -> int:
    return forget(transaction.connection, transaction.at - age, _BATCH)
