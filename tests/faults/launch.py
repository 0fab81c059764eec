"""Run in a process of its own: a sandbox's broker, with a clock that a file steers, and a step at which it dies."""

from __future__ import annotations

import argparse
from pathlib import Path

from broker import daemon, several
from broker.doors import Ready
from broker.sandbox.deployment import Deployment
from broker.sandbox.serving import announcing
from broker.system import system_clock
from tests.faults.clock import SteeredClock
from tests.faults.steps import STEPS

CLOCK = "clock"
"""The name of the file, in the broker's folder, that says how far its clock is off."""


def main() -> None:
    """Serve until SIGTERM, or until the named step."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--die-at", choices=STEPS)
    parser.add_argument("--passes", type=int, default=1)
    options = parser.parse_args()

    deployment = Deployment(options.dir)
    deployment.prepare(system_clock())
    settings = deployment.settings(options.port)
    ready = announcing(deployment, settings)

    def armed(bound: Ready) -> None:
        if options.die_at:
            STEPS[options.die_at].die_at(options.passes)
        ready(bound)

    clock = SteeredClock(options.dir / CLOCK)
    if options.workers:
        several.run(settings, ready, options.workers, clock)
    else:
        daemon.run(settings, armed, clock)


if __name__ == "__main__":
    main()
