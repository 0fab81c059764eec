"""`credbroker ledger adopt`: the way on after an older backup was restored."""

from __future__ import annotations

from pathlib import Path

import click

from broker.cli.output import output_option, show


@click.command()
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    envvar="CREDBROKER_CONFIG",
    show_envvar=True,
    help="The broker's configuration, with a new ledger.origin.",
)
@click.option("--reason", required=True, help="Why, for the ledger.")
@click.option(
    "--checkpoint",
    "kept",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A checkpoint that somebody has kept: indexes go on beyond it. May be repeated.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@output_option
def adopt(config: Path, reason: str, kept: tuple[Path, ...], yes: bool) -> None:  # noqa: FBT001 (a flag of the command)
    """Go on with a ledger whose newest entries are lost, under another origin.

    For a broker that does not start, since the database is behind what it has signed, and no newer one is to be had. It
    goes on from the head that is left: everything issued before is dead, every task is ended, and everything is locked
    until an operator lifts the lock. The token keys are replaced. Stop all brokers of the ledger first.

    \b
    credbroker ledger adopt --config /etc/credbroker/broker.toml --reason "restored last night's backup"
    """
    from broker.cli.adoption import run

    show(run(config, reason, kept, sure=yes))
