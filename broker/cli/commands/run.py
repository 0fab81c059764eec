"""`credbroker run`: a command with a credential for as long as it runs."""

from __future__ import annotations

import click

from broker.cli.handover import by_descriptor, by_file
from broker.cli.options import Caller, calling
from broker.cli.wanted import Wanted, wanted_options

_WAYS = {"file": by_file, "fd": by_descriptor}


@click.command(context_settings={"allow_interspersed_args": False})
@wanted_options
@click.option(
    "--via",
    type=click.Choice(list(_WAYS)),
    default="file",
    show_default=True,
    help="How the command gets the token.",
)
@calling
@click.argument("command", metavar="-- COMMAND [ARGUMENT]...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def run(ctx: click.Context, *, caller: Caller, wanted: Wanted, via: str, command: tuple[str, ...]) -> None:
    """Run a command with a credential, which is renewed while it runs, and released when it has ended, however it did.

    The token is never among the command's arguments or in its environment. With --via file, CREDBROKER_TOKEN_FILE names
    a file (mode 0600) with the token; it is replaced when the credential is renewed, and gone with the command. With
    --via fd, CREDBROKER_TOKEN_FD is the number of an open descriptor, to be read from offset 0. Read it anew for each
    call.

    Signals go on to the command, and its exit code is ours: 128 + n if signal n ended it, 127 if there is no such
    command, 126 if it cannot be started. What is not released, after SIGKILL say, dies when its lifetime is over.

    \b
    credbroker run --task 0198f3c2-7b1e-7c11-9d3a-5b1c2f7d9e40 \\
      --tool https://notes.example.org#search_notes --lifetime 2m -- ./agent --verbose
    """
    import asyncio

    from broker.cli.supervision import supervise

    ctx.exit(asyncio.run(supervise(caller, wanted, _WAYS[via](), command)))
