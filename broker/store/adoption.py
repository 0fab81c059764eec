"""Go on with a ledger whose newest entries are lost: an older backup was restored, say, and there is no newer one.

What was signed behind the head that is left cannot be had back, and cannot be signed again. So the ledger goes on from
that head under another name, and disowns what was lost:

1. The entries that are left are proven whole, up to a head that our key signed, and the tables made anew from them.
2. The next entry, `ledger.adopted`, commits to that head and passes indexes over, beyond all that was ever given out.
3. It is a rule that covers every lease with a smaller index; it ends every task; and behind it stands a lock on
   everything, until an operator lifts it. Tasks that were ended and locks that were set after the backup would be open
   again.
4. What is good for one time and was issued before it is good no more: that it was used may have been lost.

Token keys are not this module's: whoever adopts has withdrawn them before, so that no lost token verifies.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from broker.audit.checkpoint import Checkpoint
from broker.audit.effects import Adopted, AnnouncedKey
from broker.audit.facts import lock_facts, rule_facts, selector_facts
from broker.audit.note import NoteSigner, VerifierKey
from broker.model.clock import Clock, Ids
from broker.model.entry import Entry, Kind
from broker.model.principal import ANY_TENANT
from broker.model.selector import Cause, Lock, RevocationRule, Selector, Target
from broker.store import ledger, opening, register, tasks
from broker.store.database import Database
from broker.store.follower import Follower
from broker.store.ledger import Head, LedgerMismatch, Span
from broker.store.provenance import Proven
from broker.store.transaction import HeadState, Transaction

_ROOM = 1_000_000
"""Indexes passed over beyond the highest known: a mark may be a second behind what was signed."""
_LONGEST_TOKEN = timedelta(days=7)
_BY = "credbroker ledger adopt"
_EVERYTHING = Selector(ANY_TENANT, Target.ALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What adopting would do: go on behind the head of `previous_origin`, at `first_index`, beyond what is known."""

    previous_origin: str
    previous_size: int
    highest: int
    first_index: int


def plan(connection: Connection, signer: NoteSigner, known: Collection[Checkpoint]) -> Plan:
    """Return what adopting would do. `known` are the mark, and checkpoints that somebody has kept.

    Raises:
        LedgerMismatch: there is no ledger, it has the new name already, or what is known is of other ledgers.
    """
    head = ledger.head(connection)
    if head is None:
        raise LedgerMismatch("the database holds no ledger: restore a backup first, as old as it may be")
    spans = ledger.spans(connection).spans
    if any(span.origin == signer.name for span in spans):
        raise LedgerMismatch(
            f"the ledger has been called `{signer.name}` before: set ledger.origin to a name that it never had, such "
            f"as `{signer.name}.{len(spans) + 1}`"
        )
    highest = max([head.next_index - 1, *(_last_index(spans, checkpoint) for checkpoint in known)])
    return Plan(
        previous_origin=head.origin,
        previous_size=head.frontier.size,
        highest=highest,
        first_index=highest + 1 + _ROOM,
    )


def adopt(
    database: Database,
    signer: NoteSigner,
    known: Collection[Checkpoint],
    reason: str,
    keys: Sequence[AnnouncedKey],
    clock: Clock,
    ids: Ids,
) -> Head:
    """Adopt the ledger under the signer's name; return its new head. `keys` are the token keys that count from now on.

    Raises:
        LedgerMismatch: as `plan`; or the entries that are left are not those that our key signed.
    """
    with database.transaction() as connection:
        intended = plan(connection, signer, known)
        ledger.lock_head(connection)
        follower = Follower(VerifierKey(intended.previous_origin, signer.vkey.public))
        follower.apply(follower.read(connection))  # from the first entry on
        opening.derive(connection)
        left = follower.position
        transaction = Transaction(
            connection, clock(), HeadState(left.before(intended.first_index)), follower.in_force, Proven()
        )
        adopted = _record(transaction, intended, left.frontier.root(), signer, reason)
        _record_lock(transaction, ids(), reason)
        _announce(transaction, keys)
        state, _ = transaction.write(follower.in_force.horizon)
        tasks.cancel_all(connection, adopted.at, adopted.index)
        ledger.rename(connection, Span(intended.previous_size, intended.first_index, signer.name))
        head = opening.signed_head(signer.name, signer, state.position, transaction.committed_index)
        ledger.advance(connection, intended.previous_size, head)
        if database.is_remote:
            register.add_strangers(connection)  # who came after the backup is on record no more
    return head


def _record(transaction: Transaction, intended: Plan, root: bytes, signer: NoteSigner, reason: str) -> Adopted:
    rule = _rule(transaction.next_index(), transaction.at, transaction.leases.tokens_until)
    adopted = Adopted(
        index=rule.index,
        at=transaction.at,
        origin=signer.name,
        previous_origin=intended.previous_origin,
        previous_size=intended.previous_size,
        previous_root=base64.b64encode(root).decode(),
    )
    transaction.record(
        Entry(
            kind=Kind.LEDGER_ADOPTED,
            at=adopted.at,
            tenant="",
            asserted={"reason": reason},
            effected={
                "origin": adopted.origin,
                "vkey": str(signer.vkey),
                "previous_origin": adopted.previous_origin,
                "previous_size": adopted.previous_size,
                "previous_root": adopted.previous_root,
                "highest_index": intended.highest,
                "ended": "every task and lease",
                **rule_facts(rule),
            },
        )
    )
    transaction.rules.add(rule)
    transaction.rules.adopt(adopted)
    return adopted


def _announce(transaction: Transaction, keys: Sequence[AnnouncedKey]) -> None:
    """Announce these keys, and withdraw all others: what signed the tokens that were lost verifies nothing."""
    announced = transaction.announcements.newest.replaced(transaction.next_index(), keys)
    transaction.record(Entry(kind=Kind.KEYS_ROTATED, at=transaction.at, tenant="", effected=announced.facts()))
    transaction.announcements.add(announced)


def _rule(index: int, at: datetime, tokens_until: datetime) -> RevocationRule:
    """Make a rule that outlasts the lost tokens, too, of which nobody knows until when they were good."""
    return RevocationRule(
        index=index,
        selector=_EVERYTHING,
        cause=Cause.OPERATOR,
        recorded_at=at,
        relevant_until=max(tokens_until, at + _LONGEST_TOKEN),
    )


def _record_lock(transaction: Transaction, lock_id: str, reason: str) -> None:
    lock = Lock(
        id=lock_id,
        selector=_EVERYTHING,
        reason=f"the ledger was adopted: {reason}",
        created_by=_BY,
        created_at=transaction.at,
        expires_at=None,
        index=transaction.next_index(),
    )
    transaction.record(
        Entry(
            kind=Kind.LOCK_CREATED,
            at=transaction.at,
            tenant=ANY_TENANT,
            observed={"principal": _BY},
            asserted={"reason": lock.reason},
            effected=lock_facts(lock) | selector_facts(_EVERYTHING),
        )
    )
    transaction.locks.add(lock)


def _last_index(spans: Sequence[Span], checkpoint: Checkpoint) -> int:
    """Return the index of the last entry under a checkpoint, by the name that the ledger had then."""
    span = next((span for span in spans if span.origin == checkpoint.origin), None)
    if span is None:
        raise LedgerMismatch(f"the checkpoint is of the ledger `{checkpoint.origin}`, which this never was")
    return span.first_index + checkpoint.size - span.first_leaf - 1
