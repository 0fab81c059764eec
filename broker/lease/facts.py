"""What the ledger says of principals, tasks, leases and decisions: one shape each, whoever records it."""

from __future__ import annotations

from broker.model.clock import to_micros
from broker.model.decision import Decision
from broker.model.entry import Json
from broker.model.lease import Lease
from broker.model.principal import Principal
from broker.model.selector import Selector
from broker.model.task import Task
from broker.store.encoding import grants_to_json, resources_to_json


def principal_facts(principal: Principal) -> dict[str, Json]:
    """Say who called, and by which proof."""
    return {"principal": principal.id, "method": principal.method, "proof": principal.proof}


def decision_facts(decision: Decision, decision_id: str) -> dict[str, Json]:
    """Say what policy decided, and why."""
    return {
        "decision_id": decision_id,
        "effect": decision.effect.value,
        "policies": list(decision.policies),
        "policy_revision": decision.revision,
        "risk": decision.risk,
        "risk_factors": list(decision.risk_factors),
    }


def lease_facts(lease: Lease) -> dict[str, Json]:
    """Say what was issued. The token itself is nowhere."""
    return {
        "lease": lease.id,
        "holder": lease.holder,
        "resource": lease.resource,
        "grants": grants_to_json(lease.grants),
        "binding": lease.binding.value,
        **({"confirmation": lease.confirmation} if lease.confirmation else {}),
        "expires_at": to_micros(lease.expires_at),
        "max_expires_at": to_micros(lease.max_expires_at),
    }


def task_facts(task: Task) -> dict[str, Json]:
    """Say what an orchestrator declared."""
    return {
        "owner": task.owner,
        "purpose": task.purpose,
        "environment": task.environment.value,
        "agents": list(task.agents),
        "tools": resources_to_json(task.tools),
        "deadline": to_micros(task.deadline),
        "risk_threshold": task.risk_threshold,
    }


def selector_facts(selector: Selector) -> dict[str, Json]:
    """Say what a rule or lock covers."""
    return {"tenant": selector.tenant, "target": selector.target.value, "value": selector.value}
