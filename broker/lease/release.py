"""Release a credential: its holder gives it back early."""

from __future__ import annotations

from functools import partial

from broker.audit.facts import principal_facts, rule_facts
from broker.credential import jose
from broker.credential.keys import KeySet
from broker.lease import guards
from broker.lease.desk import Desk
from broker.lease.revoke import next_rule
from broker.model.entry import Entry, Json, Kind
from broker.model.errors import Refusal, invalid
from broker.model.lease import Lease
from broker.model.principal import Principal
from broker.model.selector import Cause, Selector, Target
from broker.store.ledger import LedgerMismatch
from broker.store.transaction import Change, Transaction

_LONGEST = 256 * 1024


async def release(desk: Desk, holder: Principal, lease_id: str) -> int:
    """Give a lease back; return the ledger index of the rule that ended it.

    A dead lease stays as it is: the answer is the index of what ended it, or of its issue if it expired.

    Raises:
        Refusal: LEASE_NOT_FOUND, LEDGER_UNAVAILABLE.
    """
    return await desk.ledger.write(Change(partial(_record, holder, lease_id), leases=(lease_id,)))


async def revoke_token(desk: Desk, keys: KeySet, token: str) -> None:
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
        change = Change(partial(_record_return, claims.lease_id, claims.index), leases=(claims.lease_id,))
        if not await desk.ledger.write(change):
            raise behind(desk, claims.index)


def behind(desk: Desk, index: int) -> Refusal:
    """A token that we have signed names an entry that our ledger lacks: nothing more is signed behind it."""
    desk.ledger.heard_of(index)
    return LedgerMismatch(f"a token of ours is of entry {index}, beyond the ledger's end").refusal()


def _record_return(lease_id: str, index: int, transaction: Transaction) -> bool:
    """End the lease; report whether the ledger goes as far as the token says."""
    if index >= transaction.next_index():
        return False
    lease = transaction.leases.find(lease_id)
    if lease is not None and lease.revoked_index is None and transaction.at < lease.expires_at:
        _end(lease, {"method": "possession"}, transaction)
    return True


def _record(holder: Principal, lease_id: str, transaction: Transaction) -> int:
    lease = guards.own_lease(transaction.leases.find(lease_id), lease_id, holder)
    if lease.revoked_index is not None:
        return lease.revoked_index
    if transaction.at >= lease.expires_at:  # that its row says so too ("closed") is nobody's word
        return lease.index
    return _end(lease, principal_facts(holder), transaction)


def _end(lease: Lease, observed: dict[str, Json], transaction: Transaction) -> int:
    rule = next_rule(transaction, Selector(lease.tenant, Target.LEASE, lease.id), Cause.RELEASED, lease.expires_at)
    transaction.record(
        Entry(
            kind=Kind.LEASE_RELEASED,
            at=transaction.at,
            tenant=lease.tenant,
            task_id=lease.task_id,
            observed=observed,
            effected={"lease": lease.id, **rule_facts(rule)},
        )
    )
    transaction.rules.add(rule)
    return rule.index
