"""How risky a request is: small whole points, each with a name, so that anybody can add them up again.

A score never permits anything. Policies only raise the bar with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

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
    return _add_up(
        sensitivity=max((tool.sensitivity for tool in tools), default=0),
        side_effects=any(tool.side_effects for tool in tools),
        prod=situation.environment is Environment.PROD,
        breadth=len(tools),
        long=situation.lifetime_seconds > _LONG_LIFETIME_SECONDS,
        renewals=situation.renewals,
    )


@lru_cache(maxsize=1_000)
def _add_up(*, sensitivity: int, side_effects: bool, prod: bool, breadth: int, long: bool, renewals: int) -> Risk:
    points = {
        "sensitivity": 8 * sensitivity,
        "side_effects": 10 * side_effects,
        "prod": 15 * prod,
        "breadth": min(3 * max(breadth - _FEW_TOOLS, 0), 15),
        "lifetime": 10 * long,
        "renewals": min(renewals // 4, 10),
    }
    factors = tuple(f"{name}+{value}" for name, value in points.items() if value)
    return Risk(min(sum(points.values()), HIGHEST), factors)
