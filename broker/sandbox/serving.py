"""A sandbox's broker, in this process."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc

from broker import daemon, several
from broker.config.settings import Settings
from broker.doors import Ready
from broker.sandbox.deployment import IDENTITIES, Deployment
from broker.store.database import shown_url
from broker.system import system_clock


def serve(directory: Path, port: int = 0, workers: int = 0, also: Sequence[grpc.GenericRpcHandler] = ()) -> None:
    """Prepare a folder, if that is not done yet, and serve until SIGTERM or SIGINT; print a line of JSON when ready.

    It is at a port of loopback; 0 is any that is free. With `workers` it serves in so many processes. `also` is served
    beside the broker's own services, to anybody.

    Raises:
        CannotStart, Refusal, PartEnded, WorkersEnded: as `daemon.run` and `several.run`.
    """
    deployment = Deployment(directory.resolve())
    deployment.prepare(system_clock())
    settings = deployment.settings(port)
    if workers:
        several.run(settings, announcing(deployment, settings), workers, also=also)
    else:
        daemon.run(settings, announcing(deployment, settings), also=also)


def announcing(deployment: Deployment, settings: Settings) -> Callable[[Ready], None]:
    """Return what prints, when the broker is ready, a line of JSON with all that its callers need."""

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
        print(json.dumps(line), flush=True)  # noqa: T201 (whoever started this process reads it)

    return ready
