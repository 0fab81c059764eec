"""Request ids: the same request again gives the same result; another one under the same id is refused (AIP-155).

An id is its sender's text, and may hold anything, so its hash is what is kept. Beside it stands the digest of what was
asked for: an octet that says by which version of these rules, and the SHA-256 of the request as canonical JSON
(RFC 8785), from which everything is left out that says nothing. So a field that is new, and that a caller does not use
yet, changes no digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from broker.audit import canonical
from broker.model.entry import Json
from broker.model.errors import Hints, Reason, Refusal
from broker.model.principal import Principal
from broker.store.requests import IdempotencyRecord
from broker.store.transaction import Transaction

_KEPT_FOR = timedelta(hours=24)
_MICROSECOND = timedelta(microseconds=1)
_VERSION = b"\x01"
_SIZE = len(_VERSION) + hashlib.sha256().digest_size


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a principal's, under the id that it gave it. `key` names it in `Change.requests`."""

    key: tuple[str, str]
    id: str
    digest: bytes


def identified(principal: Principal, request_id: str, method: str, body: Mapping[str, Json]) -> Request | None:
    """Return a request by its id; None if it has none, so that nobody will know it again."""
    if not request_id:
        return None
    key = principal.id, hashlib.sha256(request_id.encode()).hexdigest()
    return Request(key, request_id, digest(method, body))


def digest(method: str, body: Mapping[str, Json]) -> bytes:
    """Return the 33 bytes that stand for what was asked of a method: the version, and a hash."""
    said = {name: value for name, value in body.items() if value not in (None, "", [])}
    return _VERSION + hashlib.sha256(canonical.json_bytes({method: said})).digest()


def micros(span: timedelta | None) -> int | None:
    """Return a duration as it stands in a body: in microseconds."""
    return None if span is None else span // _MICROSECOND


def keys(request: Request | None) -> tuple[tuple[str, str], ...]:
    """Name a request for `Change.requests`."""
    return () if request is None else (request.key,)


def earlier_result(transaction: Transaction, request: Request | None) -> str | None:
    """Find what came of the same request before; None if this is the first.

    Raises:
        Refusal: REQUEST_ID_REUSED, if something else was asked under this id.
    """
    earlier = None if request is None else transaction.requests.find(*request.key)
    if request is None or earlier is None:
        return None
    recorded, result = earlier
    if _are_comparable(recorded, request.digest) and recorded != request.digest:
        raise Refusal(
            Reason.REQUEST_ID_REUSED,
            f"request id `{request.id}` was used for another request",
            Hints(next="use a fresh request_id for a new request"),
        )
    return result


def remember(transaction: Transaction, request: Request | None, result: str) -> None:
    """Remember what came of a request."""
    if request is not None:
        principal, kept_id = request.key
        transaction.requests.add(
            IdempotencyRecord(
                principal=principal,
                request_id=kept_id,
                digest=request.digest,
                result=result,
                expires_at=transaction.at + _KEPT_FOR,
            )
        )


def _are_comparable(recorded: bytes, digest: bytes) -> bool:
    """Report whether two digests were made by one version of the rules.

    Releases before there were versions kept 32 bytes, the hash of a text that their own code made of the request. What
    was asked then cannot be told any more, and for the 24 hours that such a record has left its result is the caller's
    own: it is given without comparing, as refusing it would make an upgrade a failure of every call that is sent again.
    """
    return len(recorded) == len(digest) == _SIZE and recorded[:1] == digest[:1]
