"""What an orchestrator declares of a task: each field is parsed and checked here, and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from broker.api import requests
from broker.intent import validation
from broker.intent.scopes import check_resource
from broker.model.errors import invalid
from broker.model.grant import ResourceGrants
from broker.model.task import RISK_THRESHOLD, Declaration
from broker.v1.orchestrator_service_pb2 import CreateTaskRequest
from broker.wire.grants import resources_from_wire
from broker.wire.tasks import environment_from_wire

_MOST_AGENTS = 64
_MOST_RESOURCES = 32
_LONGEST_OWNER = 256
_PURPOSE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def declaration(request: CreateTaskRequest) -> Declaration:
    """Parse a declaration.

    Raises:
        Refusal: INVALID_ARGUMENT, with the field's name.
    """
    return Declaration(
        risk_threshold=_risk_threshold(request),
        owner=requests.text(request.owner, "owner", _LONGEST_OWNER),
        purpose=_purpose(request.purpose),
        environment=environment_from_wire(request.environment, "environment"),
        agents=_agents(request.agents),
        tools=_tools(resources_from_wire(request.tools, "tools")),
        deadline=requests.instant(request, "deadline"),
    )


def _risk_threshold(request: CreateTaskRequest) -> int:
    threshold = request.risk_threshold if request.HasField("risk_threshold") else RISK_THRESHOLD
    if not 0 <= threshold <= 100:  # noqa: PLR2004 (the scale of risk scores)
        raise invalid("risk_threshold", "must be from 0 to 100")
    return threshold


def _purpose(value: str) -> str:
    if not _PURPOSE.fullmatch(value):
        raise invalid("purpose", "must be a code of 1 to 64 characters a-z, 0-9, `.`, `_`, `-`, not prose")
    return value


def _tools(resources: Sequence[ResourceGrants]) -> tuple[ResourceGrants, ...]:
    """Check the resources of a task: each once."""
    if not 1 <= len(resources) <= _MOST_RESOURCES:
        raise invalid("tools", f"must name 1 to {_MOST_RESOURCES} resources")
    seen: set[str] = set()
    for number, item in enumerate(resources):
        check_resource(item.resource, f"tools[{number}].resource")
        if item.resource in seen:
            raise invalid(f"tools[{number}].resource", f"`{item.resource}` is named twice")
        seen.add(item.resource)
        validation.grants(item.grants, f"tools[{number}].grants")
    return tuple(resources)


def _agents(values: Iterable[str]) -> tuple[str, ...]:
    """Check the agents of a task: the ids of principals, each once."""
    ids = tuple(values)
    if not 1 <= len(ids) <= _MOST_AGENTS:
        raise invalid("agents", f"must name 1 to {_MOST_AGENTS} agents")
    for number, agent in enumerate(ids):
        requests.agent(agent, f"agents[{number}]")
        if agent in ids[:number]:
            raise invalid(f"agents[{number}]", "is named twice")
    return ids
