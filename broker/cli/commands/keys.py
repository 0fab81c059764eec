"""`credbroker keys`: the broker's signing keys."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from broker.cli.options import DurationType
from broker.cli.output import output_option, show_list
from broker.system import system_clock


class _KeyId(click.ParamType[str]):
    """The id of a token key: a thumbprint (RFC 7638)."""

    name = "KID"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_-]{43}", str(value)):
            self.fail("is no key's id: 43 letters, digits, `-` and `_`, as `credbroker keys list` shows", param, ctx)
        return str(value)


_KID = _KeyId()


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
@click.option(
    "--ledger-key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The `checkpoint.pem` of the ledger's other brokers, of which to keep a copy. Else one is made.",
)
@output_option
def create(directory: Path, ledger_key: Path | None) -> None:
    """Make the key that signs checkpoints and the first that signs tokens, in files of mode 0600.

    \b
    credbroker keys create /var/lib/credbroker/keys
    credbroker keys create /var/lib/credbroker/keys --ledger-key checkpoint.pem
    """
    from broker.keystore.folder import create_keys, read_checkpoint_key

    create_keys(directory, system_clock(), None if ledger_key is None else read_checkpoint_key(ledger_key))
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
    from broker.keystore.folder import held, open_keys, publish_next

    with held(directory):
        publish_next(directory, open_keys(directory), system_clock() + lead)
    _show(directory)


@keys.command()
@_directory_option
@output_option
def replace(directory: Path) -> None:
    """Withdraw all token keys of a broker, and make another: what they have signed is refused from then on.

    The running broker tells its verifiers, and those of all other brokers, within seconds. It signs with the new key
    when all of them have it.

    \b
    credbroker keys replace /var/lib/credbroker/keys
    """
    from broker.keystore.folder import held, replace_token_keys

    with held(directory):
        replace_token_keys(directory, system_clock())
    _show(directory)


@keys.command()
@_directory_option
@click.option("--kid", "kids", multiple=True, required=True, type=_KID, help="The id of a token key, whosever it is.")
@output_option
def withdraw(directory: Path, kids: tuple[str, ...]) -> None:
    """Withdraw token keys by their ids, such as those of a broker that was lost: what they have signed is refused.

    The broker whose folder this is tells all verifiers within seconds.

    \b
    credbroker keys withdraw /var/lib/credbroker/keys --kid VCXtnGcYQW7TFEK2uCVM0GA1q9vNPcJvhc6fsT0sJfk
    """
    from broker.keystore import folder

    with folder.held(directory):
        folder.withdraw(directory, folder.open_keys(directory), kids, system_clock())
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
