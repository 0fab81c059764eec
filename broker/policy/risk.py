"""How risky a request is: small whole points, each with a name, so that anybody can add them up again.

A score never permits anything. Policies only raise the bar with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from broker.model.decision import Situation
from broker.model.task import Environment
from broker.policy.tables import Tool

HIGHEST = 100

_FEW_TOOLS = 4
_LONG_LIFETIME_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Risk:
    """A score from 0 to 100, and the factors it was added up from, each as `name+points`."""

    score: int
    factors: tuple[str, ...]


def score(situation: Situation, tools: Sequence[Tool]) -> Risk:
    """Add up the risk of a request for all of `tools`. A factor that does not apply is not listed."""
    points = {
        "sensitivity": 8 * max((tool.sensitivity for tool in tools), default=0),
        "side_effects": 10 if any(tool.side_effects for tool in tools) else 0,
        "prod": 15 if situation.environment is Environment.PROD else 0,
        "breadth": min(3 * max(len(tools) - _FEW_TOOLS, 0), 15),
        "lifetime": 10 if situation.lifetime_seconds > _LONG_LIFETIME_SECONDS else 0,
        "renewals": min(situation.renewals // 4, 10),
    }
    factors = tuple(f"{name}+{value}" for name, value in points.items() if value)
    return Risk(min(sum(points.values()), HIGHEST), factors)
