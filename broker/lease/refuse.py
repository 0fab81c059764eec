"""Record refusals: what was asked and not given is part of the proof (law 2)."""

from __future__ import annotations

from dataclasses import dataclass

from broker.lease.desk import Desk
from broker.lease.facts import principal_facts
from broker.model.entry import Entry, Json, Kind
from broker.model.errors import Refusal
from broker.model.principal import Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a refused request was about, as far as it said so."""

    method: str
    task_id: str = ""
    lease_id: str = ""
    resource: str = ""
    tools: tuple[str, ...] = ()


async def record_refusal(desk: Desk, principal: Principal | None, asked: Asked, refusal: Refusal) -> None:
    """Record a refusal before the caller hears of it. In a flood, refusals are counted, and the count is recorded.

    Raises:
        Refusal: LEDGER_UNAVAILABLE.
    """
    named: dict[str, Json] = {
        "method": asked.method,
        "task": asked.task_id,
        "lease": asked.lease_id,
        "resource": asked.resource,
        "tools": list(asked.tools),
    }
    await desk.ledger.write_refusal(
        Entry(
            kind=Kind.REQUEST_REFUSED,
            at=desk.clock(),
            tenant="" if principal is None else principal.tenant,
            observed={} if principal is None else principal_facts(principal),
            asserted={name: value for name, value in named.items() if value},
            decided={"reason": refusal.reason.value, **refusal.hints.metadata()},
        )
    )
