"""`credbroker serve`: the daemon."""

from __future__ import annotations

from pathlib import Path

import click

from broker.cli.options import config_option


@click.command()
@config_option("The configuration, a TOML file.")
@click.option("--workers", type=click.IntRange(1), help="Serve in so many processes, one for each core, say.")
def serve(config: Path, workers: int | None) -> None:
    """Run the broker until SIGTERM or SIGINT, which let the calls in progress finish.

    `credbroker dev` writes a configuration to start from.

    \b
    credbroker serve --config /etc/credbroker/broker.toml
    """
    from broker.cli.running import run
    from broker.config.settings import load

    run(load(config), lambda _ready: None, workers)
