"""What an entry does, read back from its bytes: all state can be derived again from the ledger alone.

Each kind has one reading, here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from broker.audit import canonical
from broker.audit.canonical import MalformedEntry
from broker.audit.effects import (
    Adopted,
    AnnouncedKey,
    Commitment,
    Effect,
    Explained,
    Forgotten,
    KeysAnnounced,
    LeaseIssued,
    LeaseRenewed,
    LeasesClosed,
    LockLifted,
    Started,
    TaskBegun,
    TaskEnded,
    TaskExtended,
)
from broker.audit.facts import grants_from_json, resources_from_json
from broker.model.clock import from_micros
from broker.model.entry import Json, Kind
from broker.model.lease import Binding, Lease
from broker.model.principal import ANY_TENANT
from broker.model.selector import Cause, Lock, RevocationRule, Selector, Target
from broker.model.task import Environment, Task, TaskState

_LONGEST_TOKEN = timedelta(days=7)
"""For rules of before entries said until when they matter: as long as a task lives, and its tokens with it."""


@dataclass(frozen=True, slots=True)
class _Read:
    """An entry, parsed: its place, its members that are always there, and its four parts as `fields`."""

    index: int
    at: datetime
    tenant: str
    task_id: str
    fields: Mapping[str, Mapping[str, Any]]

    def __getitem__(self, part: str) -> Mapping[str, Any]:
        return self.fields[part]


def effects(index: int, body: bytes) -> Sequence[Effect]:
    """Read what the entry at an index does; nothing, for the kinds that record what did not change anything.

    Raises:
        MalformedEntry: it is not an entry that a broker writes.
    """
    entry = canonical.decode(body)
    try:
        reading = _READINGS.get(Kind(_text(entry, "kind")))
        if reading is None:
            return ()
        return reading(
            _Read(
                index=index,
                at=from_micros(_number(entry, "at")),
                tenant=_text(entry, "tenant"),
                task_id=_text(entry, "task_id"),
                fields={part: _members(entry, part) for part in ("observed", "asserted", "decided", "effected")},
            )
        )
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        msg = f"entry {index} is not in the form of its kind"
        raise MalformedEntry(msg) from error


def _task_begun(entry: _Read) -> Sequence[Effect]:
    said = entry["asserted"]
    task = Task(
        id=entry.task_id,
        tenant=entry.tenant,
        owner=said["owner"],
        purpose=said["purpose"],
        environment=Environment(said["environment"]),
        agents=tuple(said["agents"]),
        tools=resources_from_json(said["tools"]),
        deadline=from_micros(said["deadline"]),
        risk_threshold=said["risk_threshold"],
        state=TaskState.ACTIVE,
        created_at=entry.at,
        created_by=entry["observed"].get("principal", ""),
        index=entry.index,
    )
    return [TaskBegun(task)]


def _task_extended(entry: _Read) -> Sequence[Effect]:
    return [TaskExtended(entry.task_id, entry.index, from_micros(entry["asserted"]["deadline"]))]


def _task_ended(entry: _Read) -> Sequence[Effect]:
    outcome = TaskState(entry["asserted"]["outcome"])
    rule = _rule(entry, Selector(entry.tenant, Target.TASK, entry.task_id), Cause.TASK_ENDED)
    return [TaskEnded(entry.task_id, entry.index, outcome, entry.at), rule]


def _lease_issued(entry: _Read) -> Sequence[Effect]:
    issued = LeaseIssued(_lease(entry, index=entry.index, changed_index=None))
    explanation = entry["asserted"].get("explanation")
    return [issued] if explanation is None else [issued, Explained(entry.index, entry.at, explanation)]


def _lease_renewed(entry: _Read) -> Sequence[Effect]:
    return [LeaseRenewed(_lease(entry, index=-1, changed_index=entry.index))]


def _lease(entry: _Read, *, index: int, changed_index: int | None) -> Lease:
    decided, done = entry["decided"], entry["effected"]
    return Lease(
        id=done["lease"],
        tenant=entry.tenant,
        task_id=entry.task_id,
        holder=done["holder"],
        resource=done["resource"],
        grants=grants_from_json(done["grants"]),
        binding=Binding(done["binding"]),
        confirmation=done.get("confirmation", ""),
        issued_at=entry.at,
        expires_at=from_micros(done["expires_at"]),
        max_expires_at=from_micros(done["max_expires_at"]),
        decision_id=decided.get("decision_id", ""),
        policies=tuple(decided.get("policies", ())),
        policy_revision=decided.get("policy_revision", ""),
        index=index,
        changed_index=changed_index,
        renewals=done.get("renewals", 0),
    )


def _lease_released(entry: _Read) -> Sequence[Effect]:
    return [_rule(entry, Selector(entry.tenant, Target.LEASE, entry["effected"]["lease"]), Cause.RELEASED)]


def _leases_expired(entry: _Read) -> Sequence[Effect]:
    done = entry["effected"]
    return [LeasesClosed((*done["leases"], *done.get("revoked", ())))]


def _leases_revoked(entry: _Read) -> Sequence[Effect]:
    return [_rule(entry, _selector(entry), Cause.OPERATOR)]


def _lock_created(entry: _Read) -> Sequence[Effect]:
    done = entry["effected"]
    lock = Lock(
        id=done["lock"],
        selector=_selector(entry),
        reason=entry["asserted"]["reason"],
        created_by=entry["observed"].get("principal", ""),
        created_at=entry.at,
        expires_at=None if done["expires_at"] is None else from_micros(done["expires_at"]),
        index=entry.index,
    )
    return [lock]


def _lock_deleted(entry: _Read) -> Sequence[Effect]:
    return [LockLifted(entry["effected"]["lock"])]


def _started(entry: _Read) -> Sequence[Effect]:
    done = entry["effected"]
    started = Started(done["origin"])
    return [started, *_committed(entry)] if "rules" in done else [started]


def _committed(entry: _Read) -> Sequence[Effect]:
    done = entry["effected"]
    return [
        Commitment(
            index=entry.index,
            horizon=from_micros(done["horizon"]),
            tokens_until=from_micros(done["tokens_until"]),
            adopted_index=done["adopted_index"],
            adopted_at=from_micros(done["adopted_at"]),
            rules=done["rules"],
            locks=done["locks"],
            keys_index=done.get("keys_index", -1),
            keys=done.get("keys"),
        )
    ]


def _keys_announced(entry: _Read) -> Sequence[Effect]:
    done = entry["effected"]
    if "keys" not in done:
        return ()  # the version before named them only, and its brokers shared them
    return [
        KeysAnnounced(entry.index, tuple(_announced_key(key) for key in done["keys"]), tuple(done["withdrawn"])),
    ]


def _announced_key(said: Mapping[str, Any]) -> AnnouncedKey:
    jwk = said["jwk"]
    return AnnouncedKey(
        kid=jwk["kid"],
        x=jwk["x"],
        y=jwk["y"],
        signs_from=from_micros(said["signs_from"]),
        until=from_micros(said["until"]),
    )


def _forgotten(entry: _Read) -> Sequence[Effect]:
    return [Forgotten(from_micros(entry["effected"]["before"]))]


def _adopted(entry: _Read) -> Sequence[Effect]:
    done = entry["effected"]
    adopted = Adopted(
        index=entry.index,
        at=entry.at,
        origin=done["origin"],
        previous_origin=done["previous_origin"],
        previous_size=done["previous_size"],
        previous_root=done["previous_root"],
    )
    return [adopted, _rule(entry, Selector(ANY_TENANT, Target.ALL), Cause.OPERATOR)]


def _selector(entry: _Read) -> Selector:
    done = entry["effected"]
    return Selector(done["tenant"], Target(done["target"]), done["value"])


def _rule(entry: _Read, selector: Selector, cause: Cause) -> RevocationRule:
    done = entry["effected"]
    relevant, deadline = done.get("relevant_until"), done.get("task_deadline")
    return RevocationRule(
        index=entry.index,
        selector=selector,
        cause=cause,
        recorded_at=entry.at,
        relevant_until=entry.at + _LONGEST_TOKEN if relevant is None else from_micros(relevant),
        task_deadline=None if deadline is None else from_micros(deadline),
    )


def _text(entry: Mapping[str, Json], name: str) -> str:
    value = entry[name]
    if not isinstance(value, str):
        raise TypeError(name)
    return value


def _number(entry: Mapping[str, Json], name: str) -> int:
    value = entry[name]
    if not isinstance(value, int):
        raise TypeError(name)
    return value


def _members(entry: Mapping[str, Json], name: str) -> Mapping[str, Any]:
    value = entry[name]
    if not isinstance(value, dict):
        raise TypeError(name)
    return value


_READINGS: Mapping[Kind, Callable[[_Read], Sequence[Effect]]] = {
    Kind.LEDGER_STARTED: _started,
    Kind.LEDGER_ADOPTED: _adopted,
    Kind.STATE_COMMITTED: _committed,
    Kind.RECORDS_FORGOTTEN: _forgotten,
    Kind.TASK_CREATED: _task_begun,
    Kind.TASK_EXTENDED: _task_extended,
    Kind.TASK_ENDED: _task_ended,
    Kind.LEASE_ISSUED: _lease_issued,
    Kind.LEASE_RENEWED: _lease_renewed,
    Kind.LEASE_RELEASED: _lease_released,
    Kind.LEASES_EXPIRED: _leases_expired,
    Kind.LEASES_REVOKED: _leases_revoked,
    Kind.LOCK_CREATED: _lock_created,
    Kind.LOCK_DELETED: _lock_deleted,
    Kind.KEYS_ROTATED: _keys_announced,
}
"""The other kinds change nothing: they tell."""
