"""What operators and auditors look at: leases, locks, the ledger. Each view shows what its caller's tenant may see."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from broker.lease import guards
from broker.lease.desk import Desk
from broker.model.errors import Hints, Reason, Refusal, invalid
from broker.model.lease import Lease
from broker.model.principal import Principal
from broker.model.selector import Lock, Selector, Target
from broker.store import explanations, ledger, locks, proofs
from broker.store import leases as stored
from broker.store.explanations import Testimony
from broker.store.ledger import Head, StoredEntry
from broker.store.proofs import Consistency, Inclusion


async def leases(
    desk: Desk, operator: Principal, selector: Selector | None, live_at: datetime | None, before: int | None, limit: int
) -> Sequence[Lease]:
    """List the leases that a selector covers, or all that an operator may see, newest first, from below an index on.

    With `live_at`, only those that are live then.

    Raises:
        Refusal: TENANT_FORBIDDEN, LEDGER_UNAVAILABLE.
    """
    which = selector or Selector(operator.tenant, Target.ALL)
    guards.within_tenant(operator, which)
    return await desk.database.read(lambda connection: stored.page(connection, which, live_at, before, limit))


async def lease(desk: Desk, operator: Principal, lease_id: str) -> Lease:
    """Return a lease.

    Raises:
        Refusal: LEASE_NOT_FOUND, also if it is of a tenant that the operator may not see; LEDGER_UNAVAILABLE.
    """
    rows = await desk.database.read(lambda connection: stored.fetch(connection, [lease_id]))
    row = rows.get(lease_id)
    if row is None or not operator.may_see(row.tenant):
        raise Refusal(Reason.LEASE_NOT_FOUND, f"there is no lease `{lease_id}`", Hints(next="check the id"))
    return row


async def active_locks(desk: Desk, operator: Principal, start: int | None, limit: int) -> Sequence[Lock]:
    """List the locks in force that an operator may see, oldest first, from a ledger index on.

    Raises:
        Refusal: LEDGER_UNAVAILABLE.
    """
    now = desk.clock()
    active = await desk.database.read(lambda connection: locks.active(connection, now))
    mine = (lock for lock in active if operator.may_see(lock.selector.tenant))
    return [lock for lock in mine if start is None or lock.index >= start][:limit]


async def entries(desk: Desk, auditor: Principal, task_id: str | None, start: int, limit: int) -> Sequence[StoredEntry]:
    """List the entries that an auditor may see, of one task or of all, oldest first, from an index on.

    Raises:
        Refusal: LEDGER_UNAVAILABLE.
    """
    tenant = auditor.confined_to
    return await desk.database.read(lambda connection: ledger.page(connection, tenant, task_id, start, limit))


async def checkpoint(desk: Desk) -> Head:
    """Return the newest head of the ledger, which is of all tenants.

    Raises:
        Refusal: LEDGER_UNAVAILABLE.
    """
    return await desk.database.read(proofs.newest_head)


async def inclusion(desk: Desk, index: int) -> Inclusion:
    """Prove that an entry is under the newest checkpoint. A proof shows hashes, and is for auditors of every tenant.

    Raises:
        Refusal: ENTRY_NOT_FOUND, LEDGER_UNAVAILABLE.
    """
    proof = await desk.database.read(lambda connection: proofs.prove_inclusion(connection, index))
    if proof is None:
        raise Refusal(Reason.ENTRY_NOT_FOUND, f"there is no entry {index}", Hints(next="see the checkpoint's size"))
    return proof


async def explanation(desk: Desk, auditor: Principal, index: int) -> Testimony:
    """Return what a model said about itself, beside an entry that an auditor may see: context, never authority.

    Raises:
        Refusal: ENTRY_NOT_FOUND, also if there was no explanation, or it has been kept for long enough;
            LEDGER_UNAVAILABLE.
    """
    tenant, now = auditor.confined_to, desk.clock()
    words = await desk.database.read(lambda connection: explanations.beside(connection, tenant, index, now))
    if words is None:
        raise Refusal(
            Reason.ENTRY_NOT_FOUND,
            f"there is no explanation beside entry {index}",
            Hints(next="see which entries hold `asserted.explanation`; words are deleted after limits.retention"),
        )
    return words


async def consistency(desk: Desk, first_size: int) -> Consistency:
    """Prove that an earlier tree is a prefix of the newest.

    Raises:
        Refusal: INVALID_ARGUMENT, LEDGER_UNAVAILABLE.
    """
    proof = await desk.database.read(lambda connection: proofs.prove_consistency(connection, first_size))
    if proof is None:
        raise invalid("first_size", "must be from 1 to the checkpoint's size")
    return proof
