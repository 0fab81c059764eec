"""What a command prints on stdout: a table for people, or one JSON document for programs."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeVar

import click

from broker.cli.notation import format_grant
from broker.model.grant import Constraint, Grant, Operator

Document = Mapping[str, Any]
"""A JSON object."""

_META = "broker.cli.format"
_Command = TypeVar("_Command", bound=Callable[..., Any])


class Format(StrEnum):
    """For whom."""

    TABLE = "table"
    JSON = "json"


def asked_format(ctx: click.Context) -> Format:
    """Report the format that was asked for, anywhere on the command line."""
    return Format(ctx.meta.get(_META, Format.TABLE))


def output_option(command: _Command) -> _Command:
    """Add `-o table|json`."""

    def remember(ctx: click.Context, _parameter: click.Parameter, value: str) -> None:
        ctx.meta[_META] = Format(value)

    return click.option(
        "-o",
        "--output",
        type=click.Choice([choice.value for choice in Format]),
        default=Format.TABLE.value,
        show_default=True,
        is_eager=True,
        expose_value=False,
        callback=remember,
        help="A table for people, or JSON for programs.",
    )(command)


def wants_json() -> bool:
    """Report whether the running command's caller is a program."""
    return asked_format(click.get_current_context()) is Format.JSON


def show(document: Document) -> None:
    """Print one thing: its fields below each other, and its `warnings` on stderr; or the document."""
    if wants_json():
        _print_json(document)
        return
    shown = {name: value for name, value in document.items() if name != "warnings" and value not in (None, "", [])}
    _print_plain([(name, cell(value)) for name, value in shown.items()])
    for warning in document.get("warnings", ()):
        click.echo(printable(f"warning: {warning}"), err=True)


def show_list(name: str, documents: Sequence[Document], columns: Sequence[str], **more: object) -> None:
    """Print many things: a row for each with these fields, or a document that holds them all under `name`."""
    if wants_json():
        _print_json({name: list(documents), **more})
        return
    if not documents:
        note(f"no {name}")
        return
    header = [column.removesuffix("_id").replace("_", " ").upper() for column in columns]
    rows = [[cell(document.get(column)) for column in columns] for document in documents]
    if sys.stdout.isatty():
        _print_rich(header, rows)
    else:
        _print_plain([header, *rows])


def note(text: str) -> None:
    """Tell people something beside the data: on stderr, and not to programs."""
    if not wants_json():
        click.echo(text, err=True)


def cell(value: object) -> str:
    """Write a value of a document in a table."""
    match value:
        case None | bool():
            return {None: "", True: "yes", False: "no"}[value]
        case {"tool": str(tool), "constraints": list(constraints)}:
            return format_grant(Grant(tool, tuple(_constraint(constraint) for constraint in constraints)))
        case {"resource": str(resource), "grants": list(grants)}:
            return f"{resource}: {cell(grants)}"
        case Mapping():
            return " ".join(f"{name}={cell(inner)}" for name, inner in value.items() if inner not in (None, "", []))
        case list() | tuple():
            return ", ".join(cell(inner) for inner in value)
        case _:
            return str(value)


def _constraint(document: Document) -> Constraint:
    return Constraint(document["path"], Operator(document["op"]), tuple(document["values"]))


def _print_json(document: Document) -> None:
    click.echo(json.dumps(document, indent=2 if sys.stdout.isatty() else None))


def _print_plain(rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns, never wrapped, so that values can be cut out."""
    clean = [[printable(text) for text in row] for row in rows]
    widths = [max(len(text) for text in column) for column in zip(*clean, strict=True)]
    for row in clean:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _print_rich(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table that fits the terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*header, box=None, header_style="bold", pad_edge=False)
    table.columns[0].no_wrap = True  # the id, to be cut out
    for row in rows:
        table.add_row(*(Text(printable(text), overflow="fold") for text in row))
    Console().print(table)


def _is_shown(letter: str) -> bool:
    """Report whether a letter is shown as it is: spaces of any width, too, and the joiners inside words and emoji."""
    return letter.isprintable() or unicodedata.category(letter) == "Zs" or letter in "\u200c\u200d"


def printable(text: str) -> str:
    """Write control characters as escapes: what an agent wrote must not drive an operator's terminal."""
    return "".join(letter if _is_shown(letter) else f"\\x{ord(letter):02x}" for letter in text)
