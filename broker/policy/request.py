"""A situation in Cedar's words: the facts of the context, the request and the entities."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from broker.model.decision import Action, Situation
from broker.model.task import Environment
from broker.policy.tables import Tool

WORKLOAD, GROUP, TOOL, TOOLSET = "Broker::Workload", "Broker::Group", "Broker::Tool", "Broker::Toolset"
ENVIRONMENT, ACTION = "Broker::Environment", "Broker::Action"

ATTRIBUTES = frozenset(
    {
        "tenant",
        "environment",
        "purpose",
        "owner",
        "risk",
        "risk_threshold",
        "requested_lifetime_seconds",
        "breadth",
        "renewals",
        "age_seconds",
        "now",
    }
)
"""Every attribute of the context. All are always sent, and none holds anything a model wrote (law 5)."""

Fact = str | int | Environment | datetime

_LARGEST = 2**63 - 1


def facts(situation: Situation, risk: int) -> dict[str, Fact]:
    """Return the context's attributes as plain values; `risk` stands for the record `{score}`."""
    return {
        "tenant": situation.tenant,
        "environment": situation.environment,
        "purpose": situation.purpose,
        "owner": situation.owner,
        "risk": risk,
        "risk_threshold": situation.risk_threshold,
        "requested_lifetime_seconds": situation.lifetime_seconds,
        "breadth": len(situation.tools),
        "renewals": situation.renewals,
        "age_seconds": situation.age_seconds,
        "now": situation.at,
    }


def unfit(known: Mapping[str, Fact]) -> str:
    """Name the first fact that Cedar's types cannot hold; empty if all fit."""
    for name, value in known.items():
        if isinstance(value, str):
            if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
                return name
        elif isinstance(value, int) and not -_LARGEST <= value <= _LARGEST:
            return name
    return ""


def cedar_request(action: Action, principal: str, tool: str, known: Mapping[str, Fact]) -> dict[str, Any]:
    """Write the request about one tool. Ids are sent as values, never as text to parse: nothing can be injected."""
    return {
        "principal": _uid(WORKLOAD, principal),
        "action": _uid(ACTION, action.value),
        "resource": _uid(TOOL, tool),
        "context": {name: _cedar(name, value) for name, value in known.items()},
    }


def _cedar(name: str, value: Fact) -> object:
    if isinstance(value, Environment):
        return {"__entity": _uid(ENVIRONMENT, value.value)}
    if isinstance(value, datetime):
        text = value.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
        return {"__extn": {"fn": "datetime", "arg": text}}
    return {"score": value} if name == "risk" else value


def entities(principal: str, groups: Iterable[str], tool: Tool) -> str:
    """Write the entities of a request, the workload in its groups and the tool in its toolsets, as Cedar's JSON."""
    workload = {"uid": _uid(WORKLOAD, principal), "attrs": {}, "parents": [_uid(GROUP, name) for name in groups]}
    attributes = {"sensitivity": tool.sensitivity, "side_effects": tool.side_effects}
    parents = [_uid(TOOLSET, name) for name in tool.toolsets]
    return json.dumps([workload, {"uid": _uid(TOOL, tool.id), "attrs": attributes, "parents": parents}])


def _uid(kind: str, id: str) -> dict[str, str]:
    return {"type": kind, "id": id}
