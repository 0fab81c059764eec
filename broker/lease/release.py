"""Release a credential: its holder gives it back early."""

from __future__ import annotations

from functools import partial

from broker.lease import guards
from broker.lease.desk import Desk
from broker.lease.facts import principal_facts
from broker.lease.revoke import add_rule
from broker.model.entry import Entry, Kind
from broker.model.lease import LeaseState
from broker.model.principal import Principal
from broker.model.selector import Cause, Selector, Target
from broker.store.transaction import Transaction, Work


async def release(desk: Desk, holder: Principal, lease_id: str) -> int:
    """Give a lease back; give the ledger index of the rule that ended it.

    A dead lease stays as it is: the answer is the index of what ended it, or of its issue if it expired.

    Raises:
        Refusal: LEASE_NOT_FOUND, LEDGER_UNAVAILABLE.
    """
    return await desk.ledger.write(Work(partial(_record, desk, holder, lease_id), leases=(lease_id,)))


def _record(desk: Desk, holder: Principal, lease_id: str, transaction: Transaction) -> int:
    lease = guards.own_lease(transaction.lease(lease_id), lease_id, holder)
    if lease.revoked_index is not None:
        return lease.revoked_index
    if lease.state(transaction.at) is LeaseState.EXPIRED:
        return lease.index
    index = transaction.record(
        Entry(
            kind=Kind.LEASE_RELEASED,
            at=transaction.at,
            tenant=lease.tenant,
            task_id=lease.task_id,
            observed=principal_facts(holder),
            effected={"lease": lease.id},
        )
    )
    add_rule(desk, transaction, index, Selector(lease.tenant, Target.LEASE, lease.id), Cause.RELEASED)
    return index
