"""Cedar text to policies, one by one, so that every complaint has a line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import cedarpy

from broker.policy import lifetime
from broker.policy.problems import Problem, place

_TOKEN = re.compile(r'//[^\n\r]*|"(?:\\.|[^"\\])*"|\S', re.DOTALL)
_NESTING = frozenset("([{&|+-*!.")
_DEEPEST = 400
_ABOUT = re.compile(r"^for policy `policy0`[,:] ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One Cedar policy. `tree` is its JSON form; `max_lifetime` is what its annotation says, None if it has none."""

    id: str
    permits: bool
    annotations: Mapping[str, str]
    max_lifetime: timedelta | None
    tree: Mapping[str, Any]
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch of a file up to and with a `;`, the number of lines before it, and the line its policy begins on."""

    text: str
    offset: int
    line: int


def read_schema(file: str, text: str, problems: list[Problem]) -> cedarpy.Schema | None:
    """Parse the schema; None, and a problem, if it cannot be."""
    try:
        return cedarpy.Schema.from_str(text)
    except ValueError as error:
        line = _line_of_syntax(cedarpy.Schema.from_str, _Piece(text, 0, 1), str(error))
        problems.append(Problem(file, line, f"not a Cedar schema: {error}"))
        return None


def read_policies(file: str, text: str, schema: cedarpy.Schema | None, problems: list[Problem]) -> list[Statement]:
    """Parse and validate the policies of one file; what is wrong goes to `problems`."""
    return [statement for piece in _pieces(text) for statement in _read(file, piece, schema, problems)]


def _read(file: str, piece: _Piece, schema: cedarpy.Schema | None, problems: list[Problem]) -> list[Statement]:
    if _is_deep(piece.text):
        problems.append(
            Problem(file, piece.line, f"the policy nests too much; split it ({_DEEPEST} operators at most)")
        )
        return []
    try:
        parsed = json.loads(cedarpy.policies_to_json_str(piece.text))
    except ValueError as error:
        line = _line_of_syntax(cedarpy.policies_to_json_str, piece, str(error))
        problems.append(Problem(file, line, f"not a Cedar policy: {error}"))
        return []
    if parsed["templates"]:
        problems.append(Problem(file, piece.line, "a template decides nothing here; write a policy without slots"))
    if schema is not None:
        problems.extend(_invalid(file, piece, schema))
    statements = [_statement(tree, file, piece, problems) for tree in parsed["staticPolicies"].values()]
    return [statement for statement in statements if statement]


def _pieces(text: str) -> Iterator[_Piece]:
    # Every character of the file is in some piece, comments too: nothing is hidden from the engine's own parser.
    begin, first = 0, -1
    for token in _TOKEN.finditer(text):
        if token[0].startswith("//"):
            continue
        first = token.start() if first < 0 else first
        if token[0] == ";":
            yield _piece(text, begin, first, token.end())
            begin, first = token.end(), -1
    yield _piece(text, begin, max(first, begin), len(text))


def _is_deep(text: str) -> bool:
    # The engine's parser is recursive, and the process dies where its stack ends.
    nesting = (token for token in _TOKEN.findall(text) if token in _NESTING)
    return sum(1 for _ in nesting) + len(re.findall(r"\bif\b", text)) > _DEEPEST


def _piece(text: str, begin: int, first: int, end: int) -> _Piece:
    return _Piece(text[begin:end], text.count("\n", 0, begin), 1 + text.count("\n", 0, first))


def _statement(tree: dict[str, Any], file: str, piece: _Piece, problems: list[Problem]) -> Statement | None:
    # An annotation without a value is null in the JSON form.
    annotations = {name: value or "" for name, value in tree.get("annotations", {}).items()}
    if not annotations.get("id"):
        problems.append(Problem(file, piece.line, 'the policy has no `@id("…")`; the ledger names policies by it'))
        return None
    permits = tree["effect"] == "permit"
    try:
        max_lifetime = _max_lifetime(annotations, permits=permits)
    except ValueError as error:
        line = place("`@max_lifetime`", piece.text, piece.line, piece.offset)
        problems.append(Problem(file, line, f"`@max_lifetime`: {error}"))
        max_lifetime = None
    return Statement(
        id=annotations["id"],
        permits=permits,
        annotations=annotations,
        max_lifetime=max_lifetime,
        tree=tree,
        file=file,
        line=piece.line,
    )


def _max_lifetime(annotations: Mapping[str, str], *, permits: bool) -> timedelta | None:
    if "max_lifetime" not in annotations:
        return None
    if not permits:
        raise ValueError("a forbid grants no lifetime; put it on a permit")
    return lifetime.parse(annotations["max_lifetime"])


def _invalid(file: str, piece: _Piece, schema: cedarpy.Schema) -> Iterator[Problem]:
    for error in cedarpy.validate_policies(piece.text, schema).errors:
        reason = _ABOUT.sub("", error.error)
        yield Problem(file, place(reason, piece.text, piece.line, piece.offset), f"does not fit the schema: {reason}")


def _line_of_syntax(parse: Callable[[str], object], piece: _Piece, error: str) -> int:
    """Find the line where the parser stops: the first one with which the text up to there fails in the same way."""
    if "unexpected token" in error or "invalid token" in error:
        lines = piece.text.split("\n")
        shorter = (number for number in range(1, len(lines)) if _error(parse, "\n".join(lines[:number])) == error)
        return piece.offset + next(shorter, len(lines))
    named = re.sub(r": (\w+)$", r": `\1`", error)
    return place(named, piece.text, piece.line, piece.offset)


def _error(parse: Callable[[str], object], text: str) -> str:
    try:
        parse(text)
    except ValueError as error:
        return str(error)
    return ""
