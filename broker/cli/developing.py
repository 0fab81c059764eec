"""A ready broker in a folder, in this process."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import grpc

from broker.cli.database import shown_url
from broker.cli.running import run
from broker.cli.sample import IDENTITIES, Deployment
from broker.config.settings import load
from broker.daemon import Ready
from broker.system import system_clock


def develop(directory: Path, port: int, also: Sequence[grpc.GenericRpcHandler] = ()) -> None:
    """Prepare a folder, if that is not done yet, and serve until SIGTERM or SIGINT; print a line of JSON when ready.

    `port` 0 is any that is free; `also` is served beside the broker's own services, to anybody.

    Raises:
        CannotStart: the folder cannot be used; else as `run`.
    """
    deployment = Deployment(directory.resolve())
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

    run(replace(settings, listen=replace(settings.listen, address=f"127.0.0.1:{port}")), ready, also)
