"""Record what governs decisions and tokens from now on: the policy bundle, the signing keys."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from broker.keystore.signing import TokenKeys
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


async def keys_announced(desk: Desk, keys: TokenKeys) -> bool:
    """Record which keys verify tokens from now on, ours beside those of the other brokers; report whether any changed.

    Raises:
        Refusal: LEDGER_UNAVAILABLE; QUOTA_EXCEEDED, if there is no room for our keys.
    """
    if keys.news(keys.announced(), 0, desk.clock()) is None:
        return False
    changed = await desk.ledger.write(Change(partial(_announce, keys), urgent=keys.withdraws))
    keys.look()
    return changed


def _announce(keys: TokenKeys, transaction: Transaction) -> bool:
    announced = keys.news(transaction.announcements.newest, transaction.next_index(), transaction.at)
    if announced is None:  # a broker that shares our folder was first
        return False
    transaction.record(_entry(Kind.KEYS_ROTATED, transaction, announced.facts()))
    transaction.announcements.add(announced)
    return True


async def _record(desk: Desk, kind: Kind, effected: Mapping[str, Json]) -> None:
    await desk.ledger.write(Change(lambda transaction: transaction.record(_entry(kind, transaction, effected))))


def _entry(kind: Kind, transaction: Transaction, effected: Mapping[str, Json]) -> Entry:
    return Entry(kind=kind, at=transaction.at, tenant=_NO_TENANT, effected=effected)
