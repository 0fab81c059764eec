"""Use up what is good for one time: a token that proves an identity, where its issuer's tokens are such."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from broker.lease.desk import Desk
from broker.model.errors import Hints, Reason, Refusal
from broker.store.requests import IdempotencyRecord
from broker.store.transaction import Change, Transaction

_OWNER = "once"  # in the place of a principal, of which none has such an id


async def use_once(desk: Desk, name: str, issued_at: datetime, until: datetime) -> None:
    """Use up what goes by a name, at most 128 characters, and remember it until it would have expired.

    What was issued before the ledger was adopted is taken for used: that it was may have been lost.

    Raises:
        Refusal: ASSERTION_REPLAYED, LEDGER_UNAVAILABLE.
    """
    await desk.ledger.write(Change(partial(_use, name, issued_at, until), requests=((_OWNER, name),)))


def _use(name: str, issued_at: datetime, until: datetime, transaction: Transaction) -> None:
    if issued_at <= transaction.in_force.adopted_at or transaction.requests.find(_OWNER, name) is not None:
        raise Refusal(
            Reason.ASSERTION_REPLAYED,
            "the token that proves the caller's identity was used before, and is good for one time",
            Hints(next="fetch a fresh token from its issuer for each request"),
        )
    transaction.requests.add(
        IdempotencyRecord(principal=_OWNER, request_id=name, digest=b"", result="", expires_at=until)
    )
