"""Record what governs decisions and tokens from now on: the policy bundle, the signing keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from broker.lease.desk import Desk
from broker.model.entry import Entry, Json, Kind
from broker.store.transaction import Change, Transaction

_NO_TENANT = ""  # it concerns all of them


async def policy_activated(desk: Desk) -> None:
    """Record that decisions are made by the bundle in use.

    Raises:
        Refusal: LEDGER_UNAVAILABLE.
    """
    bundle = desk.policy().bundle
    await _record(desk, Kind.POLICY_ACTIVATED, {"revision": bundle.revision, "policies": [*sorted(bundle.policies)]})


async def keys_rotated(desk: Desk, kids: Iterable[str]) -> None:
    """Record that these keys, and no others, verify tokens.

    Raises:
        Refusal: LEDGER_UNAVAILABLE.
    """
    await _record(desk, Kind.KEYS_ROTATED, {"kids": [*sorted(kids)]})


async def _record(desk: Desk, kind: Kind, effected: Mapping[str, Json]) -> None:
    def record(transaction: Transaction) -> int:
        return transaction.record(Entry(kind=kind, at=transaction.at, tenant=_NO_TENANT, effected=effected))

    await desk.ledger.write(Change(record))
