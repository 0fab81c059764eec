"""A credential that was admitted: what it allows, and the check of one call against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from broker.credential.claims import Claims
from broker.intent.bounds import breaches, described
from broker.intent.constraints import violation
from broker.intent.scopes import check_tool, scope_of
from broker.model.errors import FieldViolation, Hints, Reason, Refusal
from broker.model.grant import Constraint


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call that may go ahead: whose it is, and what for."""

    lease_id: str
    task_id: str
    tenant: str
    holder: str
    tool: str


@dataclass(frozen=True, slots=True)
class Admitted:
    """A credential presented by its holder, good at this instant."""

    claims: Claims

    @property
    def tools(self) -> tuple[str, ...]:
        """List the tools it grants; for servers that show a caller only what it may call."""
        return tuple(grant.tool for grant in self.claims.grants)

    @property
    def bounds(self) -> dict[str, str]:
        """Return for each tool that it grants the bounds of its arguments in words; empty, if there are none."""
        return {grant.tool: described(grant.constraints) for grant in self.claims.grants}

    def check(self, tool: str, arguments: object) -> Call:
        """Check a call of a tool, with its arguments as parsed JSON.

        Raises:
            Refusal: TOOL_NOT_GRANTED, ARGUMENT_OUT_OF_BOUNDS.
        """
        claims = self.claims
        grant = claims.grant(tool)
        if grant is None:
            raise _not_granted(tool)
        broken = violation(grant.constraints, arguments) if grant.constraints else None
        if broken is not None:
            raise _out_of_bounds(tool, broken, breaches(grant.constraints, arguments))
        return Call(
            lease_id=claims.lease_id, task_id=claims.task_id, tenant=claims.tenant, holder=claims.subject, tool=tool
        )


def _out_of_bounds(tool: str, first: Constraint, every: Sequence[FieldViolation]) -> Refusal:
    """Name all that is wrong, so that a model can mend its call at once."""
    others = "".join(f"; `{breach.field}` {breach.description}" for breach in every[1:])
    return Refusal(
        Reason.ARGUMENT_OUT_OF_BOUNDS,
        f"the argument `{first.path}` of tool `{tool}` breaks the constraint `{first.op.value}`: "
        f"it {every[0].description}{others}",
        Hints(missing=f"{first.path} {first.op.value}", next="call again within the bounds of the credential"),
        every,
    )


def _not_granted(tool: str) -> Refusal:
    try:
        check_tool(tool, "tool")
    except Refusal:
        # It came from outside, and what is said here ends up in logs and headers.
        return Refusal(Reason.TOOL_NOT_GRANTED, "the credential does not grant this, and no tool has such a name")
    return Refusal(
        Reason.TOOL_NOT_GRANTED,
        f"the credential does not grant tool `{tool}`",
        Hints(missing=scope_of([tool]), next="ask the broker for a credential that grants it"),
    )
