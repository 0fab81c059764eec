"""What policy looks at, and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from broker.model.lease import Binding
from broker.model.task import Environment


class Action(StrEnum):
    """What policy is asked about; the ids of `Broker::Action` in the bundle's schema."""

    ISSUE = "issue"
    RENEW = "renew"


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """The facts of one request that policy may use. No field holds anything a model wrote (law 5).

    `lifetime_seconds` is what was asked for, 0 if nothing was; `age_seconds` is how long the lease has lived.
    """

    action: Action
    principal: str
    tenant: str
    resource: str
    tools: tuple[str, ...]
    environment: Environment
    purpose: str
    owner: str
    risk_threshold: int
    lifetime_seconds: int
    renewals: int
    age_seconds: int
    at: datetime


class Effect(StrEnum):
    """The three outcomes. ERROR refuses like DENY, and is recorded as what it is."""

    PERMIT = "permit"
    DENY = "deny"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What policy decided for one request: all of its tools, or none.

    `policies` are the ids that determined it; `tool` is the first tool that was not permitted. `lifetime_cap` and
    `binding` bound what is issued. `risk` is 0 to 100 and `risk_factors` says what it was added up from.
    """

    effect: Effect
    policies: tuple[str, ...]
    revision: str
    lifetime_cap: timedelta
    binding: Binding
    risk: int = 0
    risk_factors: tuple[str, ...] = ()
    tool: str = ""
    errors: tuple[str, ...] = ()
