"""Forget what has been kept long enough. The ledger itself is never shortened."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from broker.lease.desk import Desk
from broker.lease.pace import in_steps
from broker.model.clock import to_micros
from broker.model.entry import Entry, Kind
from broker.store import effects, explanations, leases, locks, quotas, requests, rules, tasks
from broker.store.rows import Forget
from broker.store.transaction import Transaction

_BATCH = 200


async def forget_old(desk: Desk) -> int:
    """Delete ended leases, rules, request ids, lifted locks and explanations past retention; return the leases' number.

    In small steps, so that nobody waits long; safe to run on every replica at once.

    Raises:
        Refusal: LEDGER_UNAVAILABLE.
    """
    limits = desk.limits
    kept: tuple[tuple[Forget, timedelta], ...] = (
        # A rule is kept for as long as the leases it ended, so that their state can still be told.
        (rules.forget, limits.retention + limits.total_lifetime),
        (locks.forget, limits.retention),
        (tasks.forget_agents, limits.retention),
        (explanations.forget, timedelta()),
    )
    forgotten = await in_steps(desk, partial(_forget_batch, desk, leases.forget, limits.retention), _BATCH)
    for forget, age in kept:
        await in_steps(desk, partial(_forget_batch, desk, forget, age), _BATCH)
    await in_steps(desk, lambda transaction: requests.forget(transaction.connection, transaction.at, _BATCH), _BATCH)
    for forget in (quotas.forget, effects.forget):
        await in_steps(desk, partial(_forget_untold, forget, limits.retention), _BATCH)
    return forgotten


def _forget_batch(desk: Desk, forget: Forget, age: timedelta, transaction: Transaction) -> int:
    """Forget some, and say so: a record that is missing without a word was deleted by somebody else."""
    now, horizon = transaction.at, transaction.in_force.horizon
    # What is in force must be found at a start, whatever the clock says now.
    before = min(now - age, horizon) if forget in (rules.forget, locks.forget) else now - age
    forgotten = forget(transaction.connection, before, _BATCH)
    if forgotten:
        retained_from = to_micros(now - desk.limits.retention)
        transaction.record(Entry(kind=Kind.RECORDS_FORGOTTEN, at=now, tenant="", effected={"before": retained_from}))
    return forgotten


def _forget_untold(forget: Forget, age: timedelta, transaction: Transaction) -> int:
    """Forget some of what no entry speaks of."""
    return forget(transaction.connection, transaction.at - age, _BATCH)
