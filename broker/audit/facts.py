"""What the ledger says of principals, tasks, leases and decisions: one shape each, whoever records it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from broker.model.clock import to_micros
from broker.model.decision import Decision
from broker.model.entry import Json
from broker.model.grant import Constraint, Grant, Operator, ResourceGrants
from broker.model.lease import Lease
from broker.model.principal import Principal
from broker.model.selector import Lock, RevocationRule, Selector
from broker.model.task import Declaration, Task


def principal_facts(principal: Principal) -> dict[str, Json]:
    """Say who called, and by which proof."""
    return {"principal": principal.id, "method": principal.method, "proof": principal.proof}


def decision_facts(decision: Decision, decision_id: str) -> dict[str, Json]:
    """Return what policy decided, and why."""
    return {
        "decision_id": decision_id,
        "effect": decision.effect.value,
        "policies": list(decision.policies),
        "policy_revision": decision.revision,
        "risk": decision.risk,
        "risk_factors": list(decision.risk_factors),
    }


def lease_facts(lease: Lease) -> dict[str, Json]:
    """Return what was issued or renewed. The token itself is nowhere."""
    return {
        "lease": lease.id,
        "holder": lease.holder,
        "resource": lease.resource,
        "grants": grants_to_json(lease.grants),
        "binding": lease.binding.value,
        **({"confirmation": lease.confirmation} if lease.confirmation else {}),
        "expires_at": to_micros(lease.expires_at),
        "max_expires_at": to_micros(lease.max_expires_at),
        **({"renewals": lease.renewals} if lease.renewals else {}),
    }


def declaration_facts(declared: Declaration | Task) -> dict[str, Json]:
    """Return what an orchestrator declared, but for the deadline."""
    return {
        "owner": declared.owner,
        "purpose": declared.purpose,
        "environment": declared.environment.value,
        "agents": list(declared.agents),
        "tools": resources_to_json(declared.tools),
        "risk_threshold": declared.risk_threshold,
    }


def task_facts(task: Task) -> dict[str, Json]:
    """Return what an orchestrator declared."""
    return {**declaration_facts(task), "deadline": to_micros(task.deadline)}


def selector_facts(selector: Selector) -> dict[str, Json]:
    """Return what a rule or lock covers."""
    return {"tenant": selector.tenant, "target": selector.target.value, "value": selector.value}


def rule_facts(rule: RevocationRule) -> dict[str, Json]:
    """Return until when a rule can matter: what clock and limits of today cannot tell of yesterday's tokens."""
    return {
        "relevant_until": to_micros(rule.relevant_until),
        **({} if rule.task_deadline is None else {"task_deadline": to_micros(rule.task_deadline)}),
    }


def lock_facts(lock: Lock) -> dict[str, Json]:
    """Return what a lock covers, and until when."""
    return {
        "lock": lock.id,
        "expires_at": None if lock.expires_at is None else to_micros(lock.expires_at),
        **selector_facts(lock.selector),
    }


def grants_to_json(grants: Iterable[Grant]) -> list[Json]:
    """Return grants as plain JSON, the form in which columns and ledger entries hold them."""
    return [
        {"tool": grant.tool, "constraints": [[c.path, c.op.value, list(c.values)] for c in grant.constraints]}
        if grant.constraints
        else {"tool": grant.tool}
        for grant in grants
    ]


def grants_from_json(items: Iterable[Any]) -> tuple[Grant, ...]:
    """Undo `grants_to_json`."""
    return tuple(
        Grant(
            item["tool"],
            tuple(Constraint(path, Operator(op), tuple(values)) for path, op, values in item.get("constraints", ())),
        )
        for item in items
    )


def resources_to_json(resources: Iterable[ResourceGrants]) -> list[Json]:
    """Return declared tools as plain JSON."""
    return [{"resource": declared.resource, "grants": grants_to_json(declared.grants)} for declared in resources]


def resources_from_json(items: Iterable[Any]) -> tuple[ResourceGrants, ...]:
    """Undo `resources_to_json`."""
    return tuple(ResourceGrants(item["resource"], grants_from_json(item["grants"])) for item in items)
