"""The tables of a bundle: `tools.toml` and `groups.toml`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from broker.model.grant import qualified
from broker.model.lease import Binding
from broker.model.names import is_resource, is_tool
from broker.model.nearest import meant
from broker.policy import lifetime
from broker.policy.problems import Problem

T = TypeVar("T")

_LETTER = r"([!-$&-)+-~]|%[2-9A-F][0-9A-F])"  # of a subject, as `broker.identity.ids` writes it
_MEMBER = re.compile(
    r"spiffe://[a-z0-9._-]+(/[A-Za-z0-9._-]+)*(/[A-Za-z0-9._-]+|/\*)"
    r"|oidc:[a-z0-9][a-z0-9-]{0,31}:(?=.{1,2000}\Z)(LETTER+|(LETTER*[:/])?\*)".replace("LETTER", _LETTER)
)
_TOML_LINE = re.compile(r"at line (\d+)")
_MOST_SENSITIVE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool as policy sees it. `id` is `resource#name`; `sensitivity` runs from 0 (public) to 4 (irreversible)."""

    id: str
    name: str
    sensitivity: int
    side_effects: bool
    max_lifetime: timedelta
    toolsets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A tool server: its URI, how its tokens are bound, and its tools by name."""

    uri: str
    binding: Binding
    tools: Mapping[str, Tool]


def read_tools(file: str, text: str, problems: list[Problem]) -> dict[str, Resource]:
    """Read `tools.toml`; what is wrong goes to `problems`."""
    top = _document(file, text, problems)
    resources: dict[str, Resource] = {}
    tools_before = 0
    for index, entry in enumerate(top.tables("resource")):
        table = _TomlTable(entry, _Place(file, text, "[[resource]]", index), problems)
        resource = _resource(table, tools_before)
        tools_before += len(table.tables("tool"))
        if resource.uri in resources:
            table.complain("uri", f"resource `{resource.uri}` is listed twice")
        resources[resource.uri] = resource
    top.finish("resource")
    return resources


def _resource(table: _TomlTable, tools_before: int) -> Resource:
    uri = table.take("uri", str, "")
    if uri and not is_resource(uri):
        table.complain("uri", f"`{uri}` is not an absolute URI in ASCII, without fragment or user, of at most 512")
    binding = table.take("binding", str, Binding.IDENTITY.value)
    if binding not in set(Binding):
        table.complain("binding", f"`{binding}` is not a binding; write one of {', '.join(Binding)}")
        binding = Binding.IDENTITY.value
    tools: dict[str, Tool] = {}
    for index, entry in enumerate(table.tables("tool"), start=tools_before):
        place = _Place(table.place.file, table.place.text, "[[resource.tool]]", index)
        inner = _TomlTable(entry, place, table.problems)
        tool = _tool(inner, uri)
        if tool.name in tools:
            inner.complain("name", f"tool `{tool.name}` is listed twice at `{uri}`")
        tools[tool.name] = tool
    table.finish("uri", "binding", "tool")
    return Resource(uri=uri, binding=Binding(binding), tools=tools)


def _tool(table: _TomlTable, uri: str) -> Tool:
    name = table.take("name", str, "")
    if name and not is_tool(name):
        table.complain("name", f"`{name}` is not a tool's name; use 1 to 128 of A-Z a-z 0-9 _ . -")
    sensitivity = table.take("sensitivity", int, _MOST_SENSITIVE)
    if not 0 <= sensitivity <= _MOST_SENSITIVE:
        table.complain("sensitivity", f"`{sensitivity}` is not a sensitivity; write 0 to {_MOST_SENSITIVE}")
    tool = Tool(
        id=qualified(uri, name),
        name=name,
        sensitivity=sensitivity,
        side_effects=table.take("side_effects", bool, True),
        max_lifetime=table.lifetime("max_lifetime"),
        toolsets=table.texts("toolsets"),
    )
    table.finish("name", "sensitivity", "side_effects", "max_lifetime", "toolsets")
    return tool


def read_groups(file: str, text: str, problems: list[Problem]) -> dict[str, tuple[str, ...]]:
    """Read `groups.toml`: for each group its members, ids of principals or prefixes that end in `/*` or `:*`."""
    top = _document(file, text, problems)
    table = _TomlTable(top.take("groups", dict, {}), _Place(file, text, "[groups]", 0), problems)
    groups = {name: table.texts(name) for name in table.values}
    for name, members in groups.items():
        for member in members:
            if not _MEMBER.fullmatch(member):
                table.complain(
                    name,
                    f"`{member}` is neither a principal's id nor a prefix of one that ends in `/*` or `:*`; spaces, `%`"
                    " and what is not ASCII are percent-encoded",
                )
    top.finish("groups")
    return groups


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a table stands: under the `index`-th `header` line of a file. The parser of TOML does not say."""

    file: str
    text: str
    header: str = ""
    index: int = 0

    def line(self, key: str) -> int:
        """Find the key's line in the table; else the table's own line."""
        own = 0
        for number, line in self._from_header():
            if re.match(rf'\s*(\[+\s*)?"?{re.escape(key)}"?\s*[=\].]', line):
                return number
            if own and self.header and line.lstrip().startswith("["):
                break
            own = own or number
        return own or 1

    def _from_header(self) -> Iterator[tuple[int, str]]:
        seen = -1 if self.header else 0
        for number, line in enumerate(self.text.split("\n"), start=1):
            seen += line.replace(" ", "").startswith(self.header) if self.header else 0
            if seen >= self.index:
                yield number, line


@dataclass(frozen=True, slots=True)
class _TomlTable:
    """One TOML table, read key by key. A wrong value is a problem and reads as its default."""

    values: Mapping[str, object]
    place: _Place
    problems: list[Problem]

    def complain(self, key: str, reason: str) -> None:
        self.problems.append(Problem(self.place.file, self.place.line(key), reason))

    def take(self, key: str, kind: type[T], default: T) -> T:
        value = self.values.get(key)
        # Not isinstance: to Python `true` is an integer.
        if type(value) is kind:
            if value == "":
                self.complain(key, f"`{key}` is empty")
            return value
        self.complain(key, f"`{key}` must be {_KINDS[kind]}" if key in self.values else f"`{key}` is missing")
        return default

    def texts(self, key: str) -> tuple[str, ...]:
        values = self.values.get(key, [])
        if isinstance(values, list) and all(type(value) is str and value for value in values):
            return tuple(values)
        self.complain(key, f"`{key}` must be a list of texts")
        return ()

    def tables(self, key: str) -> list[dict[str, object]]:
        tables = self.values.get(key, [])
        if isinstance(tables, list) and all(isinstance(table, dict) for table in tables):
            return tables
        self.complain(key, f"`{key}` must be a list of tables")
        return []

    def lifetime(self, key: str) -> timedelta:
        text = self.take(key, str, "")
        try:
            return lifetime.parse(text) if text else lifetime.DEFAULT
        except ValueError as error:
            self.complain(key, f"`{key}`: {error}")
            return lifetime.DEFAULT

    def finish(self, *known: str) -> None:
        for key in self.values.keys() - set(known):
            hint = meant(key, known) or f"; known here: {', '.join(known)}"
            self.complain(key, f"unknown key `{key}`{hint}")


_KINDS: Mapping[type, str] = {str: "a text", int: "a whole number", bool: "true or false", dict: "a table"}


def _document(file: str, text: str, problems: list[Problem]) -> _TomlTable:
    place = _Place(file, text)
    try:
        return _TomlTable(tomllib.loads(text), place, problems)
    except tomllib.TOMLDecodeError as error:
        position = _TOML_LINE.search(str(error))
        problems.append(Problem(file, int(position[1]) if position else text.count("\n") + 1, f"not TOML: {error}"))
        # Nothing more can be said about it.
        return _TomlTable({"groups": {}}, place, [])
