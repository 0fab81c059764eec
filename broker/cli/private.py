"""Who may see a secret, and where it may be written."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

AGENT_VARIABLES = ("AGENT", "AI_AGENT")
"""Environment variables that tell that a model reads what a command prints."""


def check_target(path: Path) -> None:
    """Make sure that a file can be written, before there is a secret to write.

    Raises:
        click.UsageError: it cannot.
    """
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise click.UsageError(f"cannot write `{path}`: name a file in a folder that exists and is yours")


def refuse_to_reveal_to_models() -> None:
    """Keep a secret off a screen that a model reads.

    Raises:
        click.UsageError: an agent's environment variable is set.
    """
    if seen := _sign_of_a_model():
        raise click.UsageError(
            f"--reveal is refused where {seen} is set, because what is printed here ends in a model's context: "
            "use --out FILE (mode 0600) and hand the file to the tool"
        )


def refuse_to_print_to_readers() -> None:
    """Keep a secret that is meant for a program off screens, a person's or a model's.

    Raises:
        click.UsageError: stdout is a terminal, or an agent's environment variable is set.
    """
    if sys.stdout.isatty():
        raise click.UsageError(
            "a helper prints a secret for the program that calls it, not for a terminal: name this command in the "
            "program's configuration, or use `credbroker run`"
        )
    if seen := _sign_of_a_model():
        raise click.UsageError(
            f"a helper is refused where {seen} is set, because what is printed here may end in a model's context: let "
            "the program call it outside of the agent's shell, or use `credbroker run`"
        )


def _sign_of_a_model() -> str | None:
    return next((name for name in AGENT_VARIABLES if os.environ.get(name)), None)
