"""What a token says about itself, without any check. Good for looking at, and for revoking: that only takes away."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

_LONGEST = 64 * 1024
_NOT_A_TOKEN = "this is not a token: it should be three parts of base64url between dots (a JWT)"


@dataclass(frozen=True, slots=True)
class Unverified:
    """A token's header and claims. Anybody could have written them."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]


def read_token(source: str) -> str:
    """Read a token from a file, or for `-` from stdin: hidden as it is typed on a terminal. Never from arguments.

    Raises:
        OSError: the file cannot be read.
        click.UsageError: it is too long, or not text.
    """
    if source == "-" and sys.stdin.isatty():
        return str(click.prompt("token", hide_input=True, err=True)).strip()
    try:
        with (
            click.open_file(source, encoding="ascii") if source == "-" else Path(source).open(encoding="ascii") as file
        ):
            text: str = file.read(_LONGEST + 1)
    except UnicodeDecodeError:
        raise click.UsageError(_NOT_A_TOKEN) from None
    if len(text) > _LONGEST:
        raise click.UsageError(f"this is not a token: it is longer than {_LONGEST} characters")
    return text.strip()


def decode(token: str) -> Unverified:
    """Decode a token. Its text appears in no error.

    Raises:
        click.UsageError: it is not a JWT.
    """
    parts = token.removeprefix("Bearer ").split(".")
    if len(parts) != 3:  # noqa: PLR2004 (RFC 7515 section 7.1)
        raise click.UsageError(_NOT_A_TOKEN)
    return Unverified(_object(parts[0]), _object(parts[1]))


def _object(part: str) -> Mapping[str, Any]:
    try:
        value = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        raise click.UsageError(_NOT_A_TOKEN) from None
    if not isinstance(value, dict):
        raise click.UsageError(_NOT_A_TOKEN)
    return value
