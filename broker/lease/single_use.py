"""Use up what is good for one time, at whichever broker it is shown.

A token that proves an identity, where its issuer's tokens are such, is used by whoever is let in; a proof of a key, by
whoever is given a credential, in the transaction that records it.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from broker.credential import dpop
from broker.lease.desk import Desk
from broker.model.errors import Hints, Reason, Refusal
from broker.model.principal import Once, Principal
from broker.store.requests import IdempotencyRecord
from broker.store.transaction import Change, Transaction

_OWNER = "once"  # in the place of a principal, of which none has such an id
_DOUBT = timedelta(days=1)  # by which a broker's clock may be ahead for a while, without its forgetting what was used


async def use_once(desk: Desk, evidence: Once, *, urgent: bool = False) -> None:
    """Use up a token, and remember it until it would have expired.

    What was issued before the ledger was adopted is taken for used: that it was may have been lost. It is `urgent` of a
    caller who may take away: who is not let in revokes nothing, on a full disk or in a flood.

    Raises:
        Refusal: ASSERTION_REPLAYED, LEDGER_UNAVAILABLE.
    """
    await desk.ledger.write(Change(partial(_use, evidence), requests=((_OWNER, evidence.name),), urgent=urgent))


def keys(agent: Principal) -> tuple[tuple[str, str], ...]:
    """Name the proof of an agent for `Change.requests`."""
    return () if agent.spends is None else ((_OWNER, agent.spends.name),)


def refuse_spent(transaction: Transaction, agent: Principal) -> None:
    """Refuse an agent whose proof has got something before.

    Raises:
        Refusal: PROOF_INVALID.
    """
    if agent.spends is not None and _is_used(transaction, agent.spends):
        dpop.refuse("it was used before (`jti`)")


def spend(transaction: Transaction, agent: Principal) -> None:
    """Use up the proof of an agent, who gets something."""
    if agent.spends is not None:
        _remember(transaction, agent.spends)


def _use(evidence: Once, transaction: Transaction) -> None:
    if _is_used(transaction, evidence):
        raise Refusal(
            Reason.ASSERTION_REPLAYED,
            "the token that proves the caller's identity was used before, and is good for one time",
            Hints(next="fetch a fresh token from its issuer for each request"),
        )
    _remember(transaction, evidence)


def _is_used(transaction: Transaction, evidence: Once) -> bool:
    found = transaction.requests.find(_OWNER, evidence.name) is not None
    return evidence.issued_at <= transaction.in_force.adopted_at or found


def _remember(transaction: Transaction, evidence: Once) -> None:
    transaction.requests.add(
        IdempotencyRecord(
            principal=_OWNER, request_id=evidence.name, digest=b"", result="", expires_at=evidence.until + _DOUBT
        )
    )
