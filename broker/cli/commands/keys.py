"""`credbroker keys`: the broker's signing keys."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from broker.cli.options import DurationType
from broker.cli.output import output_option, show_list
from broker.system import system_clock


def _directory_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Take the folder, as `DIR` or as `--dir DIR`."""

    @functools.wraps(command)
    @click.pass_context
    def run(ctx: click.Context, /, *, directory: Path, named: Path | None, **rest: object) -> object:
        if named and ctx.get_parameter_source("directory") is ParameterSource.COMMANDLINE:
            raise click.UsageError("name the folder once: DIR, or --dir DIR")
        return command(directory=named or directory, **rest)

    folder = click.Path(file_okay=False, path_type=Path)
    run = click.argument("named", metavar="[DIR]", required=False, type=folder)(run)
    return click.option(
        "--dir",
        "directory",
        type=folder,
        default="keys",
        show_default=True,
        envvar="CREDBROKER_KEYS_DIR",
        show_envvar=True,
        help="The folder with the keys, if DIR does not name it.",
    )(run)


@click.group()
def keys() -> None:
    """Create, list and rotate the broker's signing keys. Private keys are never shown."""


@keys.command()
@_directory_option
@output_option
def create(directory: Path) -> None:
    """Make the key that signs checkpoints and the first that signs tokens, in files of mode 0600.

    \b
    credbroker keys create /var/lib/credbroker/keys
    """
    from broker.keystore.folder import create_keys

    create_keys(directory, system_clock())
    _show(directory)


@keys.command("list")
@_directory_option
@output_option
def list_keys(directory: Path) -> None:
    """List the token keys: which signs now, which is published for later, which stays for tokens that are alive.

    \b
    credbroker keys list /var/lib/credbroker/keys
    """
    _show(directory)


@keys.command()
@_directory_option
@click.option(
    "--lead", type=DurationType(), default="24h", show_default=True, help="Publish it so long before it signs."
)
@output_option
def rotate(directory: Path, lead: timedelta) -> None:
    """Make the next token key: published at once, signing after --lead. Tokens of the old one live on.

    \b
    credbroker keys rotate /var/lib/credbroker/keys --lead 1h
    """
    from broker.keystore.folder import open_keys, publish_next

    publish_next(directory, open_keys(directory), system_clock() + lead)
    _show(directory)


def _show(directory: Path) -> None:
    from broker.keystore.folder import open_keys

    ring = open_keys(directory).keyring
    now = system_clock()
    signing = ring.signing(now)
    rows = [
        {
            "kid": life.kid,
            "state": "signs" if life.kid == signing else "next" if life.signs_from > now else "retiring",
            "signs_from": life.signs_from.isoformat(),
        }
        for life in ring.lives
    ]
    show_list("keys", rows, ("kid", "state", "signs_from"))
