"""`credbroker dev`: a ready broker on this machine."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import click

from broker.cli.failure import stopping_on
from broker.model.clock import system_clock


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
    from broker.cli.database import shown_url
    from broker.cli.running import run
    from broker.cli.sample import IDENTITIES, Deployment
    from broker.config.settings import load
    from broker.config.table import ConfigError
    from broker.credential.keyfiles import KeyFileError
    from broker.daemon import Ready

    deployment = Deployment(directory.resolve())
    with stopping_on(ConfigError, KeyFileError):
        deployment.prepare(system_clock())
        settings = load(deployment.configuration)

    def ready(bound: Ready) -> None:
        line = {
            "ready": True,
            "address": f"localhost:{bound.port}",
            "jwt_address": None if bound.jwt_port is None else f"localhost:{bound.jwt_port}",
            "http_address": None if bound.http_port is None else f"localhost:{bound.http_port}",
            "directory": str(deployment.directory),
            "database": shown_url(settings.database_url),
            "vkey": bound.vkey,
            "svids": {name: str(deployment.svids / name) for name in IDENTITIES},
            "pid": os.getpid(),
        }
        print(json.dumps(line), flush=True)

    run(replace(settings, listen=replace(settings.listen, address=f"127.0.0.1:{port}")), ready)
