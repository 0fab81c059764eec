"""Request ids: the same request again gives the same result; another body under the same id is refused (AIP-155).

An id is its sender's text, and may hold anything, so its hash is what is kept.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta

from broker.model.errors import Hints, Reason, Refusal
from broker.model.principal import Principal
from broker.store.requests import IdempotencyRecord
from broker.store.transaction import Transaction

_KEPT_FOR = timedelta(hours=24)


def digest(*asked: object) -> bytes:
    """Hash what was asked. The values are frozen and plain, so their representation is their content."""
    return hashlib.sha256(repr(asked).encode()).digest()


def earlier_result(transaction: Transaction, principal: Principal, request_id: str, asked: bytes) -> str | None:
    """Find what came of the same request before; None if this is the first.

    Raises:
        Refusal: REQUEST_ID_REUSED, if something else was asked under this id.
    """
    if not request_id:
        return None
    found = transaction.requests.find(principal.id, _kept(request_id))
    if found is None:
        return None
    earlier, result = found
    if earlier != asked:
        raise Refusal(
            Reason.REQUEST_ID_REUSED,
            f"request id `{request_id}` was used for another request",
            Hints(next="use a fresh request_id for a new request"),
        )
    return result


def remember(transaction: Transaction, principal: Principal, request_id: str, asked: bytes, result: str) -> None:
    """Remember what came of a request."""
    if request_id:
        transaction.requests.add(
            IdempotencyRecord(
                principal=principal.id,
                request_id=_kept(request_id),
                digest=asked,
                result=result,
                expires_at=transaction.at + _KEPT_FOR,
            )
        )


def keys(principal: Principal, request_id: str) -> tuple[tuple[str, str], ...]:
    """Name a request for `Change.requests`."""
    return ((principal.id, _kept(request_id)),) if request_id else ()


def _kept(request_id: str) -> str:
    return hashlib.sha256(request_id.encode()).hexdigest()
