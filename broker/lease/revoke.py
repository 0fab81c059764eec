"""Revoke: one rule, one row, one entry, however many leases it covers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from broker.audit.facts import principal_facts, rule_facts, selector_facts
from broker.lease import guards
from broker.lease.desk import Desk
from broker.lease.lock import add_lock
from broker.model.entry import Entry, Kind
from broker.model.lease import Lease
from broker.model.principal import Principal
from broker.model.selector import Cause, Lock, RevocationRule, Selector
from broker.store import leases
from broker.store.transaction import Change, Transaction

_MOST_COUNTED = 1_000_000
_SAMPLE = 20
_BEHIND_THE_CLOCK = timedelta(days=1)  # the horizon, at the least: see `SurelyPast`


@dataclass(frozen=True, slots=True, kw_only=True)
class LockRequest:
    """Also lock what is revoked. `lifetime` None: until the lock is deleted."""

    lifetime: timedelta | None


@dataclass(frozen=True, slots=True)
class Preview:
    """What a revocation would hit: how many live leases, and some of them."""

    live_leases: int
    sample: Sequence[Lease]


async def preview(desk: Desk, operator: Principal, selector: Selector) -> Preview:
    """Return what a revocation would hit, changing nothing.

    Raises:
        Refusal: TENANT_FORBIDDEN, LEDGER_UNAVAILABLE.
    """
    guards.within_tenant(operator, selector)
    now = desk.clock()
    return await desk.database.read(
        lambda connection: Preview(
            leases.count_live(connection, selector, now, _MOST_COUNTED),
            leases.page(connection, selector, now, None, _SAMPLE),
        )
    )


async def revoke(
    desk: Desk, operator: Principal, selector: Selector, reason: str, lock: LockRequest | None
) -> tuple[RevocationRule, Lock | None]:
    """Kill every lease the selector covers; with `lock`, stop new ones in the same transaction.

    Raises:
        Refusal: TENANT_FORBIDDEN, LEDGER_UNAVAILABLE.
    """
    guards.within_tenant(operator, selector)
    return await desk.ledger.write(Change(partial(_record, desk, operator, selector, reason, lock), urgent=True))


def _record(
    desk: Desk,
    operator: Principal,
    selector: Selector,
    reason: str,
    request: LockRequest | None,
    transaction: Transaction,
) -> tuple[RevocationRule, Lock | None]:
    rule = next_rule(transaction, selector, Cause.OPERATOR, transaction.leases.tokens_until)
    transaction.record(
        Entry(
            kind=Kind.LEASES_REVOKED,
            at=transaction.at,
            tenant=selector.tenant,
            observed=principal_facts(operator),
            asserted={"reason": reason},
            effected=selector_facts(selector) | rule_facts(rule),
        )
    )
    transaction.rules.add(rule)
    lock = None if request is None else add_lock(desk, transaction, operator, selector, reason, request.lifetime)
    return rule, lock


def next_rule(
    transaction: Transaction,
    selector: Selector,
    cause: Cause,
    tokens_until: datetime,
    task_deadline: datetime | None = None,
) -> RevocationRule:
    """Draw up the rule that the next entry records.

    `tokens_until` is the end of whatever it can cover, as it was when that was issued: no limit or clock of now. Where
    a clock far ahead has moved the horizon beyond that, the rule lasts until the horizon moves on, by the right time.
    """
    return RevocationRule(
        index=transaction.next_index(),
        selector=selector,
        cause=cause,
        recorded_at=transaction.at,
        relevant_until=max(tokens_until, transaction.in_force.horizon + _BEHIND_THE_CLOCK),
        task_deadline=task_deadline,
    )
