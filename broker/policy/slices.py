"""Slices: for each action and tool the policies that can matter, and the facts that those can read.

Both are read off the policies' JSON form, and both err on the safe side: a scope that is not understood keeps the
policy, an expression that is not understood reads everything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cedarpy

from broker.model.decision import Action
from broker.policy.bundle import PolicyBundle
from broker.policy.request import ACTION, ATTRIBUTES, TOOL, TOOLSET
from broker.policy.statements import Statement
from broker.policy.tables import Tool


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """Policies parsed once. `reads` names, in order, the attributes of the context that any of them can read."""

    policies: cedarpy.PolicySet
    ids: tuple[str, ...]
    reads: tuple[str, ...]


def cut(bundle: PolicyBundle) -> dict[tuple[Action, str], Slice]:
    """Cut a bundle into slices by action and `resource#tool`. Tools with the same policies share one."""
    reads = {statement.id: read_by(statement) for statement in bundle.statements.values()}
    shared: dict[tuple[str, ...], Slice] = {}
    slices: dict[tuple[Action, str], Slice] = {}
    for resource in bundle.resources.values():
        for tool in resource.tools.values():
            for action in Action:
                ids = tuple(s.id for s in bundle.statements.values() if may_match(s, action, tool))
                if ids not in shared:
                    attributes = frozenset().union(*(reads[name] for name in ids))
                    shared[ids] = Slice(policy_set(bundle, ids), ids, tuple(sorted(attributes)))
                slices[action, tool.id] = shared[ids]
    return slices


def policy_set(bundle: PolicyBundle, ids: tuple[str, ...]) -> cedarpy.PolicySet:
    """Build the handle of some policies, with their `@id` as id: the engine's own ids are mere positions."""
    trees = {name: bundle.statements[name].tree for name in ids}
    return cedarpy.PolicySet.from_json_str(
        json.dumps({"staticPolicies": trees, "templates": {}, "templateLinks": []}), release_gil=True
    )


def may_match(statement: Statement, action: Action, tool: Tool) -> bool:
    """Report whether the scope of a policy can match; only if it surely cannot is the answer no."""
    return not (_excludes_action(statement.tree["action"], action) or _excludes_tool(statement.tree["resource"], tool))


def _excludes_action(scope: object, action: Action) -> bool:
    # `in` depends on the schema's hierarchy of actions, so only `==` excludes.
    match scope:
        case {"op": "==", "entity": {"type": str(kind), "id": str(id)}}:
            return (kind, id) != (ACTION, action.value)
        case _:
            return False


def _excludes_tool(scope: object, tool: Tool) -> bool:
    # The broker itself makes the tool's entity: its toolsets are its only ancestors.
    match scope:
        case {"op": "==", "entity": {"type": str(kind), "id": str(id)}}:
            return (kind, id) != (TOOL, tool.id)
        case {"op": "in", "entity": {"type": str(kind), "id": str(id)}}:
            return (kind, id) != (TOOL, tool.id) and not (kind == TOOLSET and id in tool.toolsets)
        case _:
            return False


def read_by(statement: Statement) -> frozenset[str]:
    """Name the attributes of the context that a policy can read."""
    return frozenset().union(*(reads(condition.get("body")) for condition in statement.tree["conditions"]))


def reads(expression: object) -> frozenset[str]:
    """Name the attributes of the context that an expression can read; all, if any part of it is not understood.

    `context` counts as one attribute only directly under `.` or `has`. Used any other way it is not understood.
    """
    names: set[str] = set()
    waiting = [expression]
    while waiting:
        node = waiting.pop()
        if attribute := _attribute(node):
            names.add(attribute)
            continue
        parts = _parts(node)
        if parts is None:
            return ATTRIBUTES
        waiting.extend(parts)
    return frozenset(names)


def _attribute(node: object) -> str:
    """Name the attribute if the node is exactly `context.name` or `context has name`; else empty."""
    for name in ATTRIBUTES:
        use = {"left": {"Var": "context"}, "attr": name}
        if node in ({".": use}, {"has": use}):
            return name
    return ""


def _parts(node: object) -> list[object] | None:
    """Return the expressions inside a node of any other kind; None if the kind is not known."""
    if not isinstance(node, dict) or len(node) != 1:
        return None
    ((kind, inside),) = node.items()
    match kind, inside:
        case ("Value", _) | ("Var", "principal" | "action" | "resource"):
            return []
        case "Record", dict():
            return list(inside.values())
        case _, list() if kind in _CALLS:
            return inside
        case _, dict() if kind in _OPERANDS:
            return _operands(kind, inside)
        case _:
            return None


def _operands(kind: str, inside: Mapping[str, Any]) -> list[object] | None:
    expressions, constants = _OPERANDS[kind]
    if inside.keys() - expressions - constants:
        return None
    return [inside[name] for name in inside.keys() & expressions]


_NOTHING: frozenset[str] = frozenset()
_LEFT, _ONE, _BOTH = frozenset({"left"}), frozenset({"arg"}), frozenset({"left", "right"})

# Cedar 4.5's JSON policy format: of each operator the operands that are expressions, and those that are constants.
_OPERANDS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">=", "in", "&&", "||", "+", "-", "*"), (_BOTH, _NOTHING)),
    **dict.fromkeys(("contains", "containsAll", "containsAny", "hasTag", "getTag"), (_BOTH, _NOTHING)),
    **dict.fromkeys(("!", "neg", "isEmpty"), (_ONE, _NOTHING)),
    **dict.fromkeys((".", "has"), (_LEFT, frozenset({"attr"}))),
    "like": (_LEFT, frozenset({"pattern"})),
    "is": (_LEFT | {"in"}, frozenset({"entity_type"})),
    "if-then-else": (frozenset({"if", "then", "else"}), _NOTHING),
}

# What sees its arguments and nothing else: sets, and the extension functions.
_CALLS = frozenset(
    {
        *("Set", "ip", "decimal", "datetime", "duration"),
        *("isIpv4", "isIpv6", "isLoopback", "isMulticast", "isInRange"),
        *("lessThan", "lessThanOrEqual", "greaterThan", "greaterThanOrEqual"),
        *("offset", "durationSince", "toDate", "toTime"),
        *("toMilliseconds", "toSeconds", "toMinutes", "toHours", "toDays"),
    }
)
