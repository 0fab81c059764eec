"""A task's declaration, from a file, from flags, or from a file with flags on top."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from broker.cli.notation import gather
from broker.model import strict_json
from broker.model.duration import parse_duration
from broker.model.nearest import meant
from broker.model.task import RISK_THRESHOLD, Declaration, Environment

_TEXT = ("owner", "purpose", "environment", "request_id")
_ENVIRONMENTS = ", ".join(Environment)
_LISTS = ("agents", "tools", "constraints")
_REQUIRED = ("owner", "purpose", "environment", "agents", "tools", "lifetime")
_KNOWN = frozenset({*_TEXT, *_LISTS, "lifetime", "risk_threshold"})


def read_declaration(path: Path) -> dict[str, Any]:
    """Read a declaration file: TOML, or JSON if its name says so. The keys are those of `declare`.

    Raises:
        click.UsageError: it is not a table, or not well-formed.
    """
    try:
        data = path.read_bytes()
        content = strict_json.parse(data, fractions=True) if path.suffix == ".json" else tomllib.loads(data.decode())
    except ValueError as error:
        raise click.UsageError(f"`{path}`: {error}") from None
    if not isinstance(content, dict):
        raise click.UsageError(f"`{path}`: a declaration is a table of names and values")
    return content


def declare(given: Mapping[str, Any]) -> Declaration:
    """Check a declaration's values and put tools and constraints together.

    Raises:
        click.UsageError: one is missing, unknown, or of the wrong kind.
    """
    if unknown := sorted(set(given) - _KNOWN):
        hint = meant(unknown[0], _KNOWN) or f": it has {', '.join(sorted(_KNOWN))}"
        raise click.UsageError(f"a declaration has no `{unknown[0]}`{hint}")
    if missing := [name for name in _REQUIRED if not given.get(name)]:
        raise click.UsageError(f"the declaration lacks {', '.join(missing)}")
    text = {name: _text(name, given[name]) for name in _TEXT if name in given}
    lists = {name: _texts(name, given.get(name, [])) for name in _LISTS}
    try:
        tools = gather(lists["tools"], lists["constraints"])
        lifetime = given["lifetime"]
        lifetime = lifetime if isinstance(lifetime, timedelta) else parse_duration(_text("lifetime", lifetime))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    risk = given.get("risk_threshold", RISK_THRESHOLD)
    if type(risk) is not int:
        raise click.UsageError("`risk_threshold` must be a whole number from 0 to 100")
    return Declaration(
        owner=text["owner"],
        purpose=text["purpose"],
        environment=_environment(text["environment"]),
        agents=tuple(lists["agents"]),
        tools=tools,
        deadline=lifetime,
        risk_threshold=risk,
    )


def _environment(name: str) -> Environment:
    try:
        return Environment(name)
    except ValueError:
        raise click.UsageError(f"`environment` must be one of {_ENVIRONMENTS}") from None


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise click.UsageError(f"`{name}` must be text")
    return value


def _texts(name: str, value: object) -> Sequence[str]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise click.UsageError(f"`{name}` must be a list of texts")
    return value
