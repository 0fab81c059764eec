"""The engine: a situation to a decision. An error while deciding is a refusal (law 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from functools import lru_cache
from operator import attrgetter
from typing import Any

import cedarpy

from broker.model.bounded_cache import BoundedCache
from broker.model.decision import Action, Decision, Effect, Situation
from broker.model.lease import Binding
from broker.policy import lifetime, request, slices
from broker.policy.bundle import PolicyBundle
from broker.policy.request import Fact
from broker.policy.risk import Risk, score
from broker.policy.slices import Slice
from broker.policy.tables import Tool

_REMEMBERED = 4096
_BUT_FOR_THE_INSTANT = attrgetter(*(field.name for field in fields(Situation) if field.name != "at"))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What Cedar said about one tool: the effect, the ids of the policies that determined it, and its errors."""

    effect: Effect
    policies: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


def judge(
    asked: Mapping[str, Any], policies: cedarpy.PolicySet, entities: cedarpy.Entities, schema: cedarpy.Schema
) -> Verdict:
    """Ask Cedar one question.

    Cedar skips a policy that fails, a forbid too, and may go on to allow. So any error at all is ERROR here.
    """
    try:
        result = cedarpy.is_authorized(dict(asked), policies, entities, schema)
    except ValueError as error:
        return Verdict(Effect.ERROR, errors=(str(error),))
    errors = tuple(result.diagnostics.errors)
    if errors or result.decision is cedarpy.Decision.NoDecision:
        return Verdict(Effect.ERROR, errors=errors or ("the engine came to no decision",))
    effect = Effect.PERMIT if result.decision is cedarpy.Decision.Allow else Effect.DENY
    return Verdict(effect, tuple(sorted(result.diagnostics.reasons)))


class Policy:
    """A bundle, ready to decide. Keeps what it has prepared and decided, within bounds; for one thread.

    A decision about a tool follows from the slice of policies, the principal (with its groups, which the bundle fixes),
    the tool, and the facts that the slice can read. These four are the key under which it is remembered. A permit to
    issue is remembered as a whole as well, under all of the situation but the instant, if no policy reads that.
    """

    def __init__(self, bundle: PolicyBundle) -> None:
        self.bundle = bundle
        self._slices = slices.cut(bundle)
        self._remembered: BoundedCache[tuple[object, ...], Verdict] = BoundedCache(_REMEMBERED)
        self._permits: BoundedCache[tuple[object, ...], Decision] = BoundedCache(_REMEMBERED)
        self._entities = lru_cache(maxsize=_REMEMBERED)(self._prepare)

    def decide(self, situation: Situation) -> Decision:
        """Decide about all tools of a request: every one must be permitted.

        A tool that the bundle does not know is denied; so is a request for no tool. Stops at the first tool that is not
        permitted.
        """
        asked = _BUT_FOR_THE_INSTANT(situation)
        decision = self._permits.get(asked)
        if decision is None:
            decision = self._decide(situation)
            if self._is_timeless(situation, decision):
                self._permits.keep(asked, decision)
        return decision

    def _is_timeless(self, situation: Situation, decision: Decision) -> bool:
        """Report whether the same request will be permitted again. Renewals are left out: they differ in age."""
        if decision.effect is not Effect.PERMIT or situation.action is not Action.ISSUE:
            return False
        tools = [self.bundle.tool(situation.resource, name) for name in situation.tools]
        return not any("now" in self._slices[situation.action, tool.id].reads for tool in tools if tool is not None)

    def _decide(self, situation: Situation) -> Decision:
        tools = [self.bundle.tool(situation.resource, name) for name in situation.tools]
        known = [tool for tool in tools if tool is not None]
        if not known or len(known) < len(tools):
            missing = next((name for name, tool in zip(situation.tools, tools, strict=True) if tool is None), "")
            return self._refusal(situation, Verdict(Effect.DENY), missing, Risk(0, ()))
        risk = score(situation, known)
        facts = request.facts(situation, risk.score)
        # The schema checks every fact, read or not. With this check it cannot fail for one that is not in the key.
        if unfit := request.unfit(facts):
            verdict = Verdict(Effect.ERROR, errors=(f"`{unfit}` does not fit Cedar's type",))
            return self._refusal(situation, verdict, situation.tools[0], risk)
        return self._decide_all(situation, known, facts, risk)

    def _decide_all(
        self, situation: Situation, tools: Sequence[Tool], facts: Mapping[str, Fact], risk: Risk
    ) -> Decision:
        policies: dict[str, None] = {}
        cap = timedelta.max
        for tool in tools:
            verdict = self._verdict(situation.action, situation.principal, tool, facts)
            if verdict.effect is not Effect.PERMIT:
                return self._refusal(situation, verdict, tool.name, risk)
            policies.update(dict.fromkeys(verdict.policies))
            cap = min(cap, self._lifetime_cap(tool, verdict))
        return Decision(
            effect=Effect.PERMIT,
            policies=tuple(policies),
            revision=self.bundle.revision,
            lifetime_cap=cap,
            binding=self._binding(situation),
            risk=risk.score,
            risk_factors=risk.factors,
        )

    def _refusal(self, situation: Situation, verdict: Verdict, tool: str, risk: Risk) -> Decision:
        return Decision(
            effect=verdict.effect,
            policies=verdict.policies,
            revision=self.bundle.revision,
            lifetime_cap=timedelta(0),
            binding=self._binding(situation),
            risk=risk.score,
            risk_factors=risk.factors,
            tool=tool,
            errors=verdict.errors,
        )

    def _binding(self, situation: Situation) -> Binding:
        resource = self.bundle.resource(situation.resource)
        return resource.binding if resource else Binding.IDENTITY

    def _lifetime_cap(self, tool: Tool, verdict: Verdict) -> timedelta:
        caps = (self.bundle.statements[name].max_lifetime or lifetime.DEFAULT for name in verdict.policies)
        return min(tool.max_lifetime, *caps)

    def _verdict(self, action: Action, principal: str, tool: Tool, facts: Mapping[str, Fact]) -> Verdict:
        """Look the verdict up, or ask for it and remember it; the least recently used is forgotten."""
        slice_ = self._slices[action, tool.id]
        key = (action, principal, tool.id, *(facts[name] for name in slice_.reads))
        verdict = self._remembered.get(key)
        if verdict is not None:
            return self._remembered.keep(key, verdict)  # as the newest
        verdict = self._ask(slice_, action, principal, tool, facts)
        if verdict.effect is not Effect.ERROR:
            self._remembered.keep(key, verdict)
        return verdict

    def _ask(self, slice_: Slice, action: Action, principal: str, tool: Tool, facts: Mapping[str, Fact]) -> Verdict:
        try:
            entities = self._entities(principal, tool)
        except ValueError as error:
            return Verdict(Effect.ERROR, errors=(str(error),))
        asked = request.cedar_request(action, principal, tool.id, facts)
        return judge(asked, slice_.policies, entities, self.bundle.schema)

    def _prepare(self, principal: str, tool: Tool) -> cedarpy.Entities:
        groups = self.bundle.groups_of(principal)
        return cedarpy.Entities.from_json_str(request.entities(principal, groups, tool), self.bundle.schema)
