"""Running the daemon in a command's process."""

from __future__ import annotations

from collections.abc import Callable

from broker import daemon, several
from broker.cli.database import naming_database
from broker.cli.failure import stopping_on
from broker.config.settings import Settings
from broker.doors import Ready
from broker.jobs.supervisor import PartEnded
from broker.workers.parent import WorkersEnded


def run(settings: Settings, ready: Callable[[Ready], None], workers: int | None = None) -> None:
    """Serve until SIGTERM or SIGINT, in so many `workers` if that is said; logs go to stderr.

    `ready` is told when it serves.

    Raises:
        CannotStart: the broker cannot start; the message says why.
        Refusal: the database cannot be reached.
        Stop: a part has ended, and the broker with it; the message says which.
    """
    with stopping_on(PartEnded, WorkersEnded), naming_database(settings.database_url):
        if workers is None:
            daemon.run(settings, ready)
        else:
            several.run(settings, ready, workers)
