"""Ask policy about one request, and turn its answer into a permit or a refusal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from broker.model.decision import Decision, Effect, Situation
from broker.model.errors import Hints, Reason, Refusal
from broker.policy.engine import Policy

_MOST_NAMED = 4


def permitted(policy: Policy, situation: Situation, decision_id: str) -> Decision:
    """Return the decision if it permits.

    Raises:
        Refusal: TOOL_UNKNOWN, POLICY_DENIED or POLICY_ERROR.
    """
    for tool in situation.tools:
        if policy.bundle.tool(situation.resource, tool) is None:
            raise Refusal(
                Reason.TOOL_UNKNOWN,
                f"the policy bundle knows no tool `{tool}` at `{situation.resource}`",
                Hints(
                    missing=f"tool:{tool}",
                    policy_revision=policy.bundle.revision,
                    decision_id=decision_id,
                    next="check the names; operators: add the tool to tools.toml",
                ),
            )
    decision = policy.decide(situation)
    if decision.effect is Effect.PERMIT:
        return decision
    raise _refused(decision, decision_id)


def permitted_tools(policy: Policy, situation: Situation) -> tuple[str, ...]:
    """List the tools of a situation that policy would permit each by itself."""
    alone = (replace(situation, tools=(tool,)) for tool in situation.tools)
    return tuple(one.tools[0] for one in alone if policy.decide(one).effect is Effect.PERMIT)


def _refused(decision: Decision, decision_id: str) -> Refusal:
    hints = Hints(missing=f"tool:{decision.tool}", policy_revision=decision.revision, decision_id=decision_id)
    if decision.effect is Effect.ERROR:
        return Refusal(
            Reason.POLICY_ERROR,
            f"policy could not decide about tool `{decision.tool}`, so it is refused",
            replace(hints, next="operators: look the decision id up in the ledger and mend the policy"),
        )
    because = f"forbidden by {_named(decision.policies)}" if decision.policies else "nothing permits it"
    return Refusal(
        Reason.POLICY_DENIED,
        f"policy does not permit tool `{decision.tool}`: {because}",
        replace(hints, next="ask for less, or have the policy's owner look the decision id up"),
    )


def _named(policies: Sequence[str]) -> str:
    """Name the first few: a refusal has to fit into a trailer. The ledger has them all."""
    named = ", ".join(f"`{policy}`" for policy in policies[:_MOST_NAMED])
    more = len(policies) - _MOST_NAMED
    return f"{named} and {more} more" if more > 0 else named
