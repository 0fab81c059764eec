"""Files that hold a secret."""

from __future__ import annotations

import os
import tempfile
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


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600, whole or not at all, whatever was there before."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600 from the start
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def refuse_to_reveal_to_models() -> None:
    """Keep a secret off a screen that a model reads.

    Raises:
        click.UsageError: an agent's environment variable is set.
    """
    seen = next((name for name in AGENT_VARIABLES if os.environ.get(name)), None)
    if seen:
        raise click.UsageError(
            f"--reveal is refused where {seen} is set, because what is printed here ends in a model's context: "
            "use --out FILE (mode 0600) and hand the file to the tool"
        )
