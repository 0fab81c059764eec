"""Selectors, rules and locks."""

from __future__ import annotations

from broker.model.errors import invalid
from broker.model.selector import Cause, Lock, RevocationRule, Selector, Target
from broker.v1 import selector_pb2 as pb
from broker.wire.times import instant_from_wire, instant_to_wire

_FIELDS = {
    Target.LEASE: "lease_id",
    Target.TASK: "task_id",
    Target.AGENT: "agent",
    Target.TOOL: "tool",
    Target.ALL: "everything",
}
_TARGETS = {field: target for target, field in _FIELDS.items()}
_CAUSES = {cause: pb.RevocationCause.Value(f"REVOCATION_CAUSE_{cause.name}") for cause in Cause}
_FROM_CAUSES = {number: cause for cause, number in _CAUSES.items()}
_LONGEST = 2_700
_LONGEST_TENANT = 255


def selector_to_wire(selector: Selector) -> pb.Selector:
    """Return a selector as a message."""
    value = True if selector.target is Target.ALL else selector.value
    return pb.Selector(tenant=selector.tenant, **{_FIELDS[selector.target]: value})  # type: ignore[arg-type]


def selector_from_wire(message: pb.Selector, field: str) -> Selector:
    """Parse a selector.

    Raises:
        Refusal: INVALID_ARGUMENT: no tenant, no target, or an empty one.
    """
    if not message.tenant:
        raise invalid(f"{field}.tenant", "is required")
    if len(message.tenant) > _LONGEST_TENANT or not message.tenant.isprintable():
        raise invalid(f"{field}.tenant", f"must be at most {_LONGEST_TENANT} printable characters")
    name = message.WhichOneof("target")
    if name is None:
        raise invalid(field, f"must name one of {', '.join(_TARGETS)}")
    value = getattr(message, name)
    if not value:
        raise invalid(f"{field}.{name}", "must not be empty")
    if name == "everything":
        return Selector(message.tenant, Target.ALL)
    if len(value) > _LONGEST or not value.isascii() or not value.isprintable():
        raise invalid(f"{field}.{name}", f"must be at most {_LONGEST} printable ASCII characters")
    if name == "tool" and not all(value.rpartition("#")):
        raise invalid(f"{field}.tool", "must be written `resource#tool`")
    return Selector(message.tenant, _TARGETS[name], value)


def rule_to_wire(rule: RevocationRule) -> pb.RevocationRule:
    """Return a rule as a message."""
    return pb.RevocationRule(
        index=rule.index,
        selector=selector_to_wire(rule.selector),
        cause=_CAUSES[rule.cause],
        record_time=instant_to_wire(rule.recorded_at),
        relevant_until=instant_to_wire(rule.relevant_until),
    )


def rule_from_wire(message: pb.RevocationRule, field: str) -> RevocationRule:
    """Parse a rule.

    Raises:
        Refusal: INVALID_ARGUMENT.
    """
    cause = _FROM_CAUSES.get(message.cause)
    if cause is None:
        raise invalid(f"{field}.cause", "is unknown")
    return RevocationRule(
        index=message.index,
        selector=selector_from_wire(message.selector, f"{field}.selector"),
        cause=cause,
        recorded_at=instant_from_wire(message.record_time, f"{field}.record_time"),
        relevant_until=instant_from_wire(message.relevant_until, f"{field}.relevant_until"),
    )


def lock_to_wire(lock: Lock) -> pb.Lock:
    """Return a lock as a message."""
    return pb.Lock(
        lock_id=lock.id,
        selector=selector_to_wire(lock.selector),
        reason=lock.reason,
        created_by=lock.created_by,
        create_time=instant_to_wire(lock.created_at),
        expire_time=None if lock.expires_at is None else instant_to_wire(lock.expires_at),
        index=lock.index,
    )
