"""Run in a process of its own: `credbroker dev`, with a clock that a file steers, and a step at which it dies."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from broker import daemon
from broker.cli import running
from broker.cli.developing import develop
from broker.config.settings import Settings
from broker.daemon import Ready
from tests.faults.clock import SteeredClock
from tests.faults.steps import STEPS

CLOCK = "clock"
"""The name of the file, in the broker's folder, that says how far its clock is off."""


def main() -> None:
    """Serve until SIGTERM, or until the named step."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--die-at", choices=STEPS)
    parser.add_argument("--passes", type=int, default=1)
    options = parser.parse_args()

    async def serve(settings: Settings, ready: Callable[[Ready], None], **others: Any) -> None:
        def armed(bound: Ready) -> None:
            if options.die_at:
                STEPS[options.die_at].die_at(options.passes)
            ready(bound)

        await daemon.serve(settings, armed, SteeredClock(options.dir / CLOCK), **others)

    setattr(running, "serve", serve)  # noqa: B010 (mypy: it is not exported)
    develop(options.dir, options.port)


if __name__ == "__main__":
    main()
