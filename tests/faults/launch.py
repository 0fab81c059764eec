"""Run in a process of its own: a sandbox's broker, with a clock that a file steers, and a step at which it dies."""

from __future__ import annotations

import argparse
from pathlib import Path

from broker.sandbox.process import spare_the_collector

CLOCK = "clock"
"""The name of the file, in the broker's folder, that says how far its clock is off."""


def main() -> None:
    """Serve until SIGTERM, or until the named step."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--die-at", default="")
    parser.add_argument("--passes", type=int, default=1)
    options = parser.parse_args()

    spare_the_collector()
    from tests.faults.launched import serve  # noqa: PLC0415 (most of what is imported)

    serve(options.dir, options.dir / CLOCK, options.port, options.workers, options.die_at, options.passes)


if __name__ == "__main__":
    main()
