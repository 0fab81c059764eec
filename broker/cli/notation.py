"""How people write tools and constraints on a command line, and how tables show them.

    RESOURCE#TOOL            https://repo.example.org#read_file
    TOOL:/path:op:value      read_file:/repo:eq:acme/web        create_issue:/labels:max_len:3
                             read_file:/ref:in:main,develop     search:/limit:range:1,50

A value is a whole number or `true`/`false` if it looks like one, and text otherwise; in double quotes it is always
text (a JSON string). `prefix` and `host_in` know text alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from broker.model import strict_json
from broker.model.grant import Constraint, Grant, Operator, ResourceGrants, Scalar, qualified

_NO_VALUES = frozenset({Operator.ABSENT, Operator.PRESENT})
_MANY_VALUES = frozenset({Operator.IN, Operator.RANGE, Operator.HOST_IN})
_TEXT_ONLY = frozenset({Operator.PREFIX, Operator.HOST_IN})

_OPERATORS = "|".join(Operator)
_CONSTRAINT = re.compile(
    rf"(?:(?P<resource>[^#]+)#)?(?P<tool>[A-Za-z0-9_.-]{{1,128}}):(?P<path>(?:/[^:]*)?):(?P<op>{_OPERATORS})"
    r"(?::(?P<values>.*))?",
    re.DOTALL,
)
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})", re.ASCII)
_VALUE = re.compile(r'("(?:[^"\\]|\\.)*"|[^",]*)(,|$)', re.DOTALL)
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_FLAGS = {"true": True, "false": False}


def parse_tool(text: str) -> tuple[str, str]:
    """Read `RESOURCE#TOOL`.

    Raises:
        ValueError: it is not of that form.
    """
    resource, mark, tool = text.partition("#")
    if not (resource and mark and tool) or "#" in tool:
        raise ValueError(f"`{text}` is not a tool: write RESOURCE#TOOL, such as https://repo.example.org#read_file")
    return resource, tool


def parse_constraint(text: str) -> tuple[str, str, Constraint]:
    """Read `[RESOURCE#]TOOL:/path:op[:value[,value…]]` as resource (maybe empty), tool and constraint.

    Raises:
        ValueError: it is not of that form.
    """
    match = _CONSTRAINT.fullmatch(text)
    if match is None:
        raise ValueError(
            f"`{text}` is not a constraint: write TOOL:/path:op:value, where op is one of {', '.join(Operator)}"
        )
    op = Operator(match["op"])
    return match["resource"] or "", match["tool"], Constraint(match["path"], op, _values(op, match["values"]))


def _values(op: Operator, text: str | None) -> tuple[Scalar, ...]:
    if op in _NO_VALUES:
        if text is not None:
            raise ValueError(f"operator `{op}` takes no value: leave `:{text}` out")
        return ()
    if text is None:
        raise ValueError(f"operator `{op}` takes a value: add `:value`")
    parts = _split(text) if op in _MANY_VALUES else (text,)
    return tuple(_scalar(part, text_only=op in _TEXT_ONLY) for part in parts)


def _split(text: str) -> Sequence[str]:
    parts, at = [], 0
    while match := _VALUE.match(text, at):
        parts.append(match[1])
        at = match.end()
        if not match[2]:
            return parts
    raise ValueError(f"`{text}` is not a list of values: separate them by commas, and close every quote")


def _scalar(text: str, *, text_only: bool) -> Scalar:
    if text.startswith('"'):
        return _quoted(text)
    if text_only:
        return text
    if not _INTEGER.fullmatch(text):
        return _FLAGS.get(text, text)
    value = int(text)
    if not _INT64_MIN <= value <= _INT64_MAX:
        raise ValueError(f"`{text}` is beyond 64 bits: as text, put it in double quotes")
    return value


def _quoted(text: str) -> str:
    try:
        value = strict_json.parse(text.encode(), fractions=False)
    except ValueError:
        value = None
    if not isinstance(value, str):
        raise ValueError(f"`{text}` is not a JSON string: close the quote, or leave quotes out")  # noqa: TRY004 (a value)
    return value


def format_constraint(tool: str, constraint: Constraint) -> str:
    """Write a constraint as `parse_constraint` reads it. A path with a colon has no such form, but shows well."""
    head = f"{tool}:{constraint.path}:{constraint.op}"
    if constraint.op in _NO_VALUES:
        return head
    return f"{head}:{','.join(_format_scalar(value, constraint.op) for value in constraint.values)}"


def _format_scalar(value: Scalar, op: Operator) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    ambiguous = value in _FLAGS or _INTEGER.fullmatch(value) or value.startswith('"')
    divided = op in _MANY_VALUES and ("," in value or '"' in value)
    return json.dumps(value) if ambiguous or divided else value


def format_grant(grant: Grant) -> str:
    """Write a grant for a table: the tool, or its constraints."""
    if not grant.constraints:
        return grant.tool
    return " ".join(format_constraint(grant.tool, constraint) for constraint in grant.constraints)


def gather(tools: Iterable[str], constraints: Iterable[str]) -> tuple[ResourceGrants, ...]:
    """Put tools and constraints together, by resource, in the order of the tools.

    Raises:
        ValueError: one is malformed, named twice, or constrains a tool that is not among the tools.
    """
    granted: dict[tuple[str, str], list[Constraint]] = {}
    for text in tools:
        named = parse_tool(text)
        if named in granted:
            raise ValueError(f"`{text}` is named twice")
        granted[named] = []
    for text in constraints:
        resource, tool, constraint = parse_constraint(text)
        granted[_meant(granted, resource, tool, text)].append(constraint)
    return tuple(
        ResourceGrants(
            resource, tuple(Grant(tool, tuple(kept)) for (owner, tool), kept in granted.items() if owner == resource)
        )
        for resource in dict.fromkeys(resource for resource, _ in granted)
    )


def _meant(granted: Mapping[tuple[str, str], object], resource: str, tool: str, text: str) -> tuple[str, str]:
    meant = [named for named in granted if named[1] == tool and resource in ("", named[0])]
    if not meant:
        raise ValueError(f"`{text}` constrains a tool that is not asked for: add `--tool RESOURCE#{tool}`")
    if len(meant) > 1:
        raise ValueError(f"`{text}` could mean {' or '.join(qualified(*named) for named in meant)}: name the resource")
    return meant[0]
