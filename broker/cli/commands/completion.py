"""`credbroker completion`: click's own scripts."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that completes commands in your shell.

    \b
    credbroker completion bash > ~/.local/share/bash-completion/completions/credbroker
    credbroker completion zsh > ~/.zfunc/_credbroker
    credbroker completion fish > ~/.config/fish/completions/credbroker.fish
    """
    script = get_completion_class(shell)
    if script is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(script(ctx.find_root().command, {}, "credbroker", "_CREDBROKER_COMPLETE").source())
