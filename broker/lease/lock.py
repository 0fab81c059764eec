"""Lock and unlock: a lasting refusal of new and renewed credentials."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from broker.audit.facts import lock_facts, principal_facts, selector_facts
from broker.lease import guards
from broker.lease.desk import Desk
from broker.model.entry import Entry, Kind
from broker.model.errors import Hints, Reason, Refusal
from broker.model.principal import Principal
from broker.model.selector import Lock, Selector
from broker.store.transaction import Change, Transaction


async def lock(desk: Desk, operator: Principal, selector: Selector, reason: str, lifetime: timedelta | None) -> Lock:
    """Stop new and renewed credentials for what the selector covers.

    Raises:
        Refusal: TENANT_FORBIDDEN, LEDGER_UNAVAILABLE.
    """
    guards.within_tenant(operator, selector)
    return await desk.ledger.write(
        Change(lambda transaction: add_lock(desk, transaction, operator, selector, reason, lifetime), urgent=True)
    )


async def unlock(desk: Desk, operator: Principal, lock_id: str) -> int:
    """Lift a lock; return the index of the entry that says so.

    Raises:
        Refusal: LOCK_NOT_FOUND, LEDGER_UNAVAILABLE.
    """
    return await desk.ledger.write(Change(partial(_record_unlock, operator, lock_id)))


def add_lock(
    desk: Desk,
    transaction: Transaction,
    operator: Principal,
    selector: Selector,
    reason: str,
    lifetime: timedelta | None,
) -> Lock:
    """Record a lock in a transaction."""
    added = Lock(
        id=desk.ids(),
        selector=selector,
        reason=reason,
        created_by=operator.id,
        created_at=transaction.at,
        expires_at=None if lifetime is None else transaction.at + lifetime,
        index=transaction.next_index(),
    )
    transaction.record(
        Entry(
            kind=Kind.LOCK_CREATED,
            at=transaction.at,
            tenant=selector.tenant,
            observed=principal_facts(operator),
            asserted={"reason": reason},
            effected=lock_facts(added),
        )
    )
    transaction.locks.add(added)
    return added


def _record_unlock(operator: Principal, lock_id: str, transaction: Transaction) -> int:
    lifted = next((lock for lock in transaction.locks.active() if lock.id == lock_id), None)
    if lifted is None or not operator.may_see(lifted.selector.tenant):
        raise Refusal(
            Reason.LOCK_NOT_FOUND, f"there is no lock `{lock_id}`", Hints(next="see the locks in force: lock list")
        )
    index = transaction.record(
        Entry(
            kind=Kind.LOCK_DELETED,
            at=transaction.at,
            tenant=lifted.selector.tenant,
            observed=principal_facts(operator),
            effected={"lock": lifted.id, **selector_facts(lifted.selector)},
        )
    )
    transaction.locks.lift(lifted, index)
    return index
