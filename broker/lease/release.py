"""Release a credential: its holder gives it back early."""

from __future__ import annotations

from functools import partial

from broker.credential import jose
from broker.credential.keys import KeySet
from broker.lease import guards
from broker.lease.desk import Desk
from broker.lease.facts import principal_facts
from broker.lease.revoke import add_rule
from broker.model.entry import Entry, Json, Kind
from broker.model.errors import Refusal, invalid
from broker.model.lease import Lease, LeaseState
from broker.model.principal import Principal
from broker.model.selector import Cause, Selector, Target
from broker.store.transaction import Transaction, Work

_LONGEST = 256 * 1024


async def release(desk: Desk, holder: Principal, lease_id: str) -> int:
    """Give a lease back; give the ledger index of the rule that ended it.

    A dead lease stays as it is: the answer is the index of what ended it, or of its issue if it expired.

    Raises:
        Refusal: LEASE_NOT_FOUND, LEDGER_UNAVAILABLE.
    """
    return await desk.ledger.write(Work(partial(_record, desk, holder, lease_id), leases=(lease_id,)))


async def give_back(desk: Desk, keys: KeySet, token: str) -> None:
    """End the lease of a token, whoever has it: it can only get less (RFC 7009). For any other text, nothing is done.

    A token of ours may be longer here than verifiers take it.

    Raises:
        Refusal: LEDGER_UNAVAILABLE; INVALID_ARGUMENT: it looks like one of ours and cannot be read, so it may live on.
    """
    try:
        claims = jose.decode(token, keys, _LONGEST)
    except Refusal as error:
        if jose.names_key_of(token, keys):
            raise invalid(
                "token", "is one of this broker's, and not whole or not as it was issued: send it whole"
            ) from error
        return
    if claims.issuer == desk.issuer:
        await desk.ledger.write(Work(partial(_record_return, desk, claims.lease_id), leases=(claims.lease_id,)))


def _record_return(desk: Desk, lease_id: str, transaction: Transaction) -> None:
    lease = transaction.lease(lease_id)
    if lease is not None and lease.state(transaction.at) is LeaseState.LIVE:
        _end(desk, lease, {"method": "possession"}, transaction)


def _record(desk: Desk, holder: Principal, lease_id: str, transaction: Transaction) -> int:
    lease = guards.own_lease(transaction.lease(lease_id), lease_id, holder)
    if lease.revoked_index is not None:
        return lease.revoked_index
    if lease.state(transaction.at) is LeaseState.EXPIRED:
        return lease.index
    return _end(desk, lease, principal_facts(holder), transaction)


def _end(desk: Desk, lease: Lease, observed: dict[str, Json], transaction: Transaction) -> int:
    index = transaction.record(
        Entry(
            kind=Kind.LEASE_RELEASED,
            at=transaction.at,
            tenant=lease.tenant,
            task_id=lease.task_id,
            observed=observed,
            effected={"lease": lease.id},
        )
    )
    add_rule(desk, transaction, index, Selector(lease.tenant, Target.LEASE, lease.id), Cause.RELEASED)
    return index
