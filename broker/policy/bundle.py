"""A policy bundle: files named `schema.cedarschema`, `policies/*.cedar`, `tools.toml` and `groups.toml`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import cedarpy

from broker.model.decision import Action, Situation
from broker.model.nearest import meant, nearest
from broker.model.task import Environment
from broker.policy import request
from broker.policy.problems import PolicyBundleError, Problem, place
from broker.policy.statements import Statement, read_policies, read_schema
from broker.policy.tables import Resource, Tool, read_groups, read_tools

__all__ = [
    "POLICIES",
    "PolicyBundle",
    "PolicyBundleError",
    "PolicyBundleFiles",
    "Problem",
    "Resource",
    "Tool",
    "check",
    "is_part",
]

_LONGEST_ID = 128  # bytes
_LARGEST_IDS = 32 * 1024  # bytes, with quotation marks and commas; the rest of an entry takes as much at most
_SCHEMA, _TOOLS, _GROUPS, POLICIES = "schema.cedarschema", "tools.toml", "groups.toml", "policies"
_ONE_OF_EACH, _IN_POLICIES = (_SCHEMA, _TOOLS, _GROUPS), f"{POLICIES}/"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyBundle:
    """A bundle without problems. `revision` is the SHA-256, in hex, of its files' names and contents."""

    revision: str
    schema: cedarpy.Schema
    statements: Mapping[str, Statement]
    resources: Mapping[str, Resource]
    groups: Mapping[str, tuple[str, ...]]

    @property
    def policies(self) -> Mapping[str, Mapping[str, str]]:
        """The annotations of every policy, by its `@id`."""
        return {name: statement.annotations for name, statement in self.statements.items()}

    def resource(self, uri: str) -> Resource | None:
        """Find a tool server."""
        return self.resources.get(uri)

    def tool(self, resource: str, name: str) -> Tool | None:
        """Find a tool of a tool server."""
        owner = self.resources.get(resource)
        return owner.tools.get(name) if owner else None

    def groups_of(self, principal: str) -> tuple[str, ...]:
        """Name the groups that a principal is in, by itself or by a prefix, in alphabetical order."""
        return tuple(
            sorted(
                name
                for name, members in self.groups.items()
                if any(_is_member(principal, member) for member in members)
            )
        )


def _is_member(principal: str, member: str) -> bool:
    if member.endswith("*"):
        return principal.startswith(member[:-1]) and len(principal) > len(member) - 1
    return principal == member


@dataclass(frozen=True, slots=True)
class PolicyBundleFiles:
    """The files of a bundle by their names in it, wherever they are kept.

    `unreadable` says by name why a file cannot be read; `others` names what else is there, which is not read.
    """

    contents: Mapping[str, bytes]
    unreadable: Mapping[str, str] = field(default_factory=dict)
    others: frozenset[str] = frozenset()


def is_part(name: str) -> bool:
    """Report whether what has this name, beside a bundle's files, is one of them."""
    return name in _ONE_OF_EACH or (name.startswith(_IN_POLICIES) and name.endswith(".cedar"))


def check(files: PolicyBundleFiles) -> PolicyBundle:
    """Check a bundle, whole: either it is good, or everything that is wrong with it is told.

    Raises:
        PolicyBundleError: it has problems.
    """
    problems: list[Problem] = [*_absent(files), *_unusable(files)]
    texts = dict(_texts(files, problems))
    schema = read_schema(_SCHEMA, texts[_SCHEMA], problems) if _SCHEMA in texts else None
    statements = [
        statement
        for file, text in texts.items()
        if file.startswith(_IN_POLICIES)
        for statement in read_policies(file, text, schema, problems)
    ]
    resources = read_tools(_TOOLS, texts[_TOOLS], problems) if _TOOLS in texts else {}
    groups = read_groups(_GROUPS, texts[_GROUPS], problems) if _GROUPS in texts else {}
    problems.extend(_repeated(statements))
    problems.extend(_too_many_names(statements))
    if schema is not None:
        problems.extend(_misfits(schema, texts[_SCHEMA]))
    if texts.keys() >= {_TOOLS, _GROUPS} and not any(problem.file in (_TOOLS, _GROUPS) for problem in problems):
        problems.extend(_unknown_names(statements, resources, groups, texts))
    if problems or schema is None:
        raise PolicyBundleError(problems)
    return PolicyBundle(
        revision=_revision(texts),
        schema=schema,
        statements={statement.id: statement for statement in statements},
        resources=resources,
        groups=groups,
    )


def _absent(files: PolicyBundleFiles) -> Iterator[Problem]:
    names = files.contents.keys() | files.unreadable.keys()
    for name in _ONE_OF_EACH:
        if name not in names:
            yield Problem(name, 1, f"the file is missing{_meant_for(name, files)}")
    if not any(name.startswith(_IN_POLICIES) for name in names):
        reason = f"there are no policies, so nothing could be permitted{_meant_for(POLICIES, files)}"
        yield Problem(POLICIES, 1, reason)


def _meant_for(name: str, files: PolicyBundleFiles) -> str:
    near = nearest(name, {other for other in files.others if "/" not in other})
    return f"; is `{near}` meant for it?" if near else ""


def _unusable(files: PolicyBundleFiles) -> Iterator[Problem]:
    for name, reason in files.unreadable.items():
        yield Problem(name, 1, f"the file cannot be read: {reason}")
    for name in (*files.contents, *files.others):
        # A guardrail in `limits.cedar.txt` would be missed in silence.
        if name.startswith(_IN_POLICIES) and not is_part(name):
            yield Problem(name, 1, "only files named `*.cedar` may be here")


def _texts(files: PolicyBundleFiles, problems: list[Problem]) -> Iterator[tuple[str, str]]:
    for name, content in sorted(files.contents.items()):
        if not is_part(name):
            continue
        try:
            yield name, content.decode()
        except UnicodeDecodeError as error:
            problems.append(Problem(name, 1 + content[: error.start].count(b"\n"), "the file is not UTF-8"))


def _revision(files: Mapping[str, str]) -> str:
    # JSON separates names from contents, so no two bundles hash the same bytes.
    return hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()


def _repeated(statements: Iterable[Statement]) -> Iterator[Problem]:
    first: dict[str, Statement] = {}
    for statement in statements:
        if statement.id in first:
            at = f"{first[statement.id].file}:{first[statement.id].line}"
            yield Problem(statement.file, statement.line, f"the id `{statement.id}` is taken by the policy at {at}")
        first.setdefault(statement.id, statement)


def _too_many_names(statements: Sequence[Statement]) -> Iterator[Problem]:
    """Bound the ids: the ledger's entry on a decision, and that on the bundle itself, may have to name all of them."""
    for statement in statements:
        if len(statement.id.encode()) > _LONGEST_ID:
            yield Problem(statement.file, statement.line, f"the policy's id is longer than {_LONGEST_ID} bytes")
    size = len(json.dumps([statement.id for statement in statements], ensure_ascii=False).encode())
    if size > _LARGEST_IDS:
        reason = f"the ids of all policies take {size} bytes, at most {_LARGEST_IDS}: shorten them, or merge policies"
        yield Problem(POLICIES, 1, reason)


def _misfits(schema: cedarpy.Schema, text: str) -> Iterator[Problem]:
    """Try the schema on requests as the broker will send them: one that does not take them would refuse everybody."""
    tool = Tool(id="t", name="t", sensitivity=0, side_effects=False, max_lifetime=timedelta(minutes=1), toolsets=("s",))
    try:
        entities = cedarpy.Entities.from_json_str(request.entities("w", ("g",), tool), schema)
    except ValueError as error:
        yield Problem(_SCHEMA, place(str(error), text, 1), f"does not take the broker's entities: {error}")
        return
    nothing = cedarpy.PolicySet.from_str("")
    for action in Action:
        for environment in Environment:
            known = request.facts(_trial(action, environment), risk=0)
            result = cedarpy.is_authorized(request.cedar_request(action, "w", "t", known), nothing, entities, schema)
            for reason in result.diagnostics.errors:
                yield Problem(_SCHEMA, place(reason, text, 1), f"does not take the broker's requests: {reason}")


def _trial(action: Action, environment: Environment) -> Situation:
    return Situation(
        action=action,
        principal="w",
        tenant="",
        resource="r",
        tools=("t",),
        environment=environment,
        purpose="",
        owner="",
        risk_threshold=0,
        lifetime_seconds=0,
        renewals=0,
        age_seconds=0,
        at=datetime(1970, 1, 1, tzinfo=UTC),
    )


def _unknown_names(
    statements: Iterable[Statement],
    resources: Mapping[str, Resource],
    groups: Mapping[str, tuple[str, ...]],
    files: Mapping[str, str],
) -> Iterator[Problem]:
    """Find policies about groups, toolsets and tools that do not exist: a forbid with a typo would never apply."""
    tools = [tool for resource in resources.values() for tool in resource.tools.values()]
    known = {
        request.GROUP: (set(groups), _GROUPS),
        request.TOOLSET: ({name for tool in tools for name in tool.toolsets}, _TOOLS),
        request.TOOL: ({tool.id for tool in tools}, _TOOLS),
    }
    for statement in statements:
        for kind, name in _named(statement.tree):
            names, where = known.get(kind, ({name}, ""))
            if name not in names:
                tail = "\n".join(files[statement.file].split("\n")[statement.line - 1 :])
                line = place(f'`"{name}"`', tail, statement.line, statement.line - 1)
                reason = f'no `{kind}::"{name}"` in {where}, so the policy could not match{meant(name, names)}'
                yield Problem(statement.file, line, reason)


def _named(node: object) -> Iterator[tuple[str, str]]:
    """List the entities that a policy names, wherever it does."""
    waiting = [node]
    while waiting:
        match waiting.pop():
            case {"type": str(kind), "id": str(name)}:
                yield kind, name
            case dict() as inner:
                waiting.extend(inner.values())
            case list() as items:
                waiting.extend(items)
            case _:
                pass
