"""`credbroker dev`: a ready broker on this machine."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default="credbroker-dev",
    show_default=True,
    help="Where it keeps everything; made if it is not there.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="0: any that is free.")
def dev(directory: Path, port: int) -> None:
    """Start a ready broker for development: CA, SVIDs, policy bundle, keys, configuration and database in one folder.

    When it is ready it prints one line of JSON with its address. Start it again in the same folder and it goes on where
    it was. Never use its CA in production.

    \b
    credbroker dev --dir ./credbroker-dev --port 8443
    CREDBROKER_ADDRESS=localhost:8443 CREDBROKER_SVID_DIR=./credbroker-dev/svids/orchestrator \\
      credbroker task list
    """
    from broker.cli.running import run
    from broker.sandbox.deployment import Deployment
    from broker.sandbox.serving import announcing
    from broker.system import system_clock

    deployment = Deployment(directory.resolve())
    deployment.prepare(system_clock())
    settings = deployment.settings(port)
    run(settings, announcing(deployment, settings))
