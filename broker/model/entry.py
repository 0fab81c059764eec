"""Ledger entries: what is hashed, signed over and kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

Json = str | int | bool | None | list["Json"] | dict[str, "Json"]
"""The subset of JSON in entries: no floats, so that one value has one form."""


class Kind(StrEnum):
    """What an entry records."""

    LEDGER_STARTED = "ledger.started"
    LEDGER_ADOPTED = "ledger.adopted"
    STATE_COMMITTED = "state.committed"
    RECORDS_FORGOTTEN = "records.forgotten"
    TASK_CREATED = "task.created"
    TASK_EXTENDED = "task.extended"
    TASK_ENDED = "task.ended"
    LEASE_ISSUED = "lease.issued"
    LEASE_RENEWED = "lease.renewed"
    LEASE_RELEASED = "lease.released"
    LEASES_EXPIRED = "leases.expired"
    LEASES_REVOKED = "leases.revoked"
    LOCK_CREATED = "lock.created"
    LOCK_DELETED = "lock.deleted"
    REQUEST_REFUSED = "request.refused"
    REFUSALS_SUMMARISED = "refusals.summarised"
    POLICY_ACTIVATED = "policy.activated"
    KEYS_ROTATED = "keys.rotated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry before it has an index, in four parts that never mix.

    `observed`: the broker verified it. `asserted`: somebody claimed it. `decided`: policy. `effected`: ours.
    """

    kind: Kind
    at: datetime
    tenant: str
    task_id: str = ""
    observed: Mapping[str, Json] = field(default_factory=dict)
    asserted: Mapping[str, Json] = field(default_factory=dict)
    decided: Mapping[str, Json] = field(default_factory=dict)
    effected: Mapping[str, Json] = field(default_factory=dict)
