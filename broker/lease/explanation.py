"""What a model says about itself: a commitment to it goes into the ledger, its words are kept beside it for a time."""

from __future__ import annotations

from collections.abc import Mapping

from broker.audit import canonical
from broker.lease.desk import Desk
from broker.model.entry import Json
from broker.store.explanations import Explanation
from broker.store.transaction import Transaction


def kept(desk: Desk, text: str, transaction: Transaction) -> Explanation | None:
    """Return what is to be kept of an explanation, beside the entry about to be recorded; None, if there is none."""
    if not text:
        return None
    kept_for = desk.limits.retention + desk.limits.total_lifetime
    expires_at = transaction.at + kept_for
    return Explanation(index=transaction.next_index(), salt=desk.salts(), text=text, expires_at=expires_at)


def commitment(explanation: Explanation | None) -> Mapping[str, Json]:
    """Return what the entry says of an explanation."""
    return {} if explanation is None else {"explanation": canonical.commit(explanation.salt, explanation.text)}
