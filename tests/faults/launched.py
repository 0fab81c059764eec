"""What `launch` runs in its process."""

from __future__ import annotations

from pathlib import Path

from broker import daemon, several
from broker.doors import Ready
from broker.sandbox.deployment import Deployment
from broker.sandbox.serving import announcing
from broker.system import system_clock
from tests.faults.clock import SteeredClock
from tests.faults.steps import STEPS


def serve(folder: Path, clock_file: Path, port: int, workers: int, die_at: str, passes: int) -> None:
    """Serve by the clock of a file until SIGTERM, or until a named step was passed so many times."""
    deployment = Deployment(folder)
    deployment.prepare(system_clock())
    settings, clock = deployment.settings(port), SteeredClock(clock_file)
    ready = announcing(deployment, settings)

    def armed(bound: Ready) -> None:
        if die_at:
            STEPS[die_at].die_at(passes)
        ready(bound)

    if workers:
        several.run(settings, ready, workers, clock)
    else:
        daemon.run(settings, armed, clock)
