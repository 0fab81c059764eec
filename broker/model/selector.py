"""Selectors, and the rules and locks that use them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from broker.model.grant import qualified
from broker.model.principal import ANY_TENANT


class Target(StrEnum):
    """What kind of thing a selector names."""

    LEASE = "lease"
    TASK = "task"
    AGENT = "agent"
    TOOL = "tool"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Selector:
    """What a revocation or lock covers, within one tenant or (`*`) all of them.

    `value` is a lease id, a task id, a SPIFFE ID or a `resource#tool`; for ALL it is empty.
    """

    tenant: str
    target: Target
    value: str = ""


def selectors_of(
    *, tenant: str, lease_ids: Iterable[str], task_id: str, holder: str, resource: str, tools: Iterable[str]
) -> set[Selector]:
    """Return every selector that covers a lease: a rule or lock covers it if its selector is among these.

    `lease_ids` are its own id and those of its ancestors, since a lease ends with what it was derived from.
    """
    named = [(Target.TASK, task_id), (Target.AGENT, holder), (Target.ALL, "")]
    named += [(Target.LEASE, lease_id) for lease_id in lease_ids]
    named += [(Target.TOOL, qualified(resource, tool)) for tool in tools]
    return {Selector(owner, target, value) for owner in (tenant, ANY_TENANT) for target, value in named}


def naming(tenant: str, lease_ids: Iterable[str]) -> set[Selector]:
    """Return the selectors that name leases of a tenant by their ids."""
    return {Selector(owner, Target.LEASE, lease_id) for lease_id in lease_ids for owner in (tenant, ANY_TENANT)}


class Cause(StrEnum):
    """Why a rule was recorded."""

    TASK_ENDED = "task_ended"
    RELEASED = "released"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationRule:
    """A recorded revocation: every lease it covers with a smaller ledger index is dead.

    From `relevant_until` on, every token it covers has expired by itself. Where it ends a task, `task_deadline` is when
    the task would have ended anyway: until then a broker must know that it may not go on.
    """

    index: int
    selector: Selector
    cause: Cause
    recorded_at: datetime
    relevant_until: datetime
    task_deadline: datetime | None = None

    @property
    def kept_until(self) -> datetime:
        """Report until when a broker needs it; verifiers need it until `relevant_until`."""
        return self.relevant_until if self.task_deadline is None else max(self.relevant_until, self.task_deadline)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A lasting refusal of new and renewed credentials. `expires_at` None: until lifted."""

    id: str
    selector: Selector
    reason: str
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    index: int

    def is_active(self, at: datetime) -> bool:
        """Report whether it is in force at an instant."""
        return self.expires_at is None or at < self.expires_at
