"""`credbroker serve`: the daemon."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    envvar="CREDBROKER_CONFIG",
    show_envvar=True,
    help="The configuration, a TOML file.",
)
def serve(config: Path) -> None:
    """Run the broker until SIGTERM or SIGINT, which let the calls in progress finish.

    `credbroker dev` writes a configuration to start from.

    \b
    credbroker serve --config /etc/credbroker/broker.toml
    """
    from broker.cli.running import run
    from broker.config.settings import load

    run(load(config), lambda _ready: None)
