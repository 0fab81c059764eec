"""Slips of the pen: names in a request that nobody knows. They are told beside the answer, and decide nothing.

Nothing is refused for one: in an emergency a rule about a tool that has left the bundle is as good as any, and a task
may be declared before its tool is. What is compared are the rules of the caller's own tenant, and the policy bundle.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from broker.identity.directory import IdentityRule
from broker.lease import guards
from broker.lease.desk import Desk
from broker.model.errors import Refusal
from broker.model.grant import qualified
from broker.model.nearest import meant, nearest
from broker.model.principal import ANY_TENANT, Principal, Role
from broker.model.selector import Selector, Target
from broker.model.task import Task
from broker.policy.bundle import PolicyBundle
from broker.store import leases

_ALMOST = 0.8  # how like a known name one must be to be told, if a pattern covers it


async def in_task(desk: Desk, task: Task) -> Sequence[str]:
    """Name the tools and agents of a task that nobody knows."""
    bundle = desk.policy().bundle
    tools = (qualified(declared.resource, grant.tool) for declared in task.tools for grant in declared.grants)
    agents = [await _agent(desk, task.tenant, agent) for agent in task.agents]
    return [slip for slip in (*(_tool(bundle, tool) for tool in tools), *agents) if slip]


async def in_selector(desk: Desk, operator: Principal, selector: Selector) -> Sequence[str]:
    """Report on a tenant, an agent or a tool that an operator's selector names and nobody knows.

    Raises:
        Refusal: TENANT_FORBIDDEN.
    """
    guards.within_tenant(operator, selector)
    tenants = {rule.tenant for rule in desk.rules}
    slips = []
    if desk.rules and selector.tenant not in tenants | {ANY_TENANT}:
        slips.append(f"no rule gives the tenant `{selector.tenant}`{meant(selector.tenant, tenants)}")
    elif selector.target is Target.AGENT:
        slips.append(await _agent(desk, selector.tenant, selector.value))
    elif selector.target is Target.TOOL:
        slips.append(_tool(desk.policy().bundle, selector.value))
    return [slip for slip in slips if slip]


def _tool(bundle: PolicyBundle, tool: str) -> str:
    resource, _, name = tool.partition("#")
    if bundle.tool(resource, name) is not None:
        return ""
    offered = bundle.resource(resource)
    known = [tool.id for resource in bundle.resources.values() for tool in resource.tools.values()]
    unknown = f"tool `{name}` at `{resource}`" if offered else f"resource `{resource}`"
    return f"the policy bundle knows no {unknown}{meant(tool, known)}"


async def _agent(desk: Desk, tenant: str, agent: str) -> str:
    if not desk.rules:
        return ""
    bundle = desk.policy().bundle
    rule = next((rule for rule in desk.rules if rule.matches(agent)), None)
    if rule is None or tenant not in (rule.tenant, ANY_TENANT):
        known = _Known.within(desk.rules, tenant, bundle)
        hint = meant(agent, {*known.ids, *known.patterns})
        return f"no rule of the tenant `{tenant}` knows the agent `{agent}`{hint}"
    if Role.AGENTS not in rule.roles:
        return f"`{agent}` is no agent: its rule gives it the groups {', '.join(sorted(rule.roles))}"
    if rule.match == agent or any(agent in members for members in bundle.groups.values()):
        return ""
    near = nearest(agent, _Known.within(desk.rules, tenant, bundle).ids, _ALMOST)
    if not near and await _has_held(desk, tenant, agent):
        return ""
    hint = f"; did you mean `{near}`?" if near else ", and has had no credential yet"
    return f"the agent `{agent}` is known by the pattern `{rule.match}` alone{hint}"


@dataclass(frozen=True, slots=True)
class _Known:
    """The agents of a tenant: those that are named, by a rule or in a group, and the patterns that cover others."""

    ids: Collection[str]
    patterns: Collection[str]

    @classmethod
    def within(cls, rules: Iterable[IdentityRule], tenant: str, bundle: PolicyBundle) -> _Known:
        """Collect what the rules of a tenant say, and of the bundle's groups what its patterns cover."""
        own = {rule.match for rule in rules if tenant in (rule.tenant, ANY_TENANT) and Role.AGENTS in rule.roles}
        patterns = {match for match in own if match.endswith("*")}
        covered = tuple(pattern[:-1] for pattern in patterns)
        members = {member for group in bundle.groups.values() for member in group if not member.endswith("*")}
        return cls(own - patterns | {member for member in members if member.startswith(covered)}, patterns)


async def _has_held(desk: Desk, tenant: str, agent: str) -> bool:
    """Report whether a lease of an agent's is remembered; if the database cannot say, so."""
    selector = Selector(tenant, Target.AGENT, agent)
    with suppress(Refusal):
        return bool(await desk.database.read(lambda connection: leases.page(connection, selector, None, None, 1)))
    return True
