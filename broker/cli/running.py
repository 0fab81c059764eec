"""Running the daemon in this process."""

from __future__ import annotations

import asyncio
import faulthandler
from collections.abc import Callable

from broker import logs
from broker.cli.database import naming_database
from broker.cli.failure import stopping_on
from broker.config.settings import Settings
from broker.daemon import serve
from broker.doors import Ready
from broker.jobs.supervisor import PartEnded

_END_WITHIN_SECONDS = 60.0


def run(settings: Settings, ready: Callable[[Ready], None]) -> None:
    """Serve until SIGTERM or SIGINT; logs go to stderr. `ready` is told when it serves.

    However it ends, and whatever hangs then, the process lives for a minute longer at most: it then says where each of
    its threads stands, and exits with 1.

    Raises:
        CannotStart: the broker cannot start; the message says why.
        Refusal: the database cannot be reached.
        Stop: a part has ended, and the broker with it; the message says which.
    """
    logs.configure()
    with stopping_on(PartEnded), naming_database(settings.database_url):
        asyncio.run(serve(settings, ready, over=_bound_the_end))


def _bound_the_end() -> None:
    """Have the process end in time. A thread that waits for a disk cannot be told to stop, and would be waited for."""
    faulthandler.dump_traceback_later(_END_WITHIN_SECONDS, exit=True)
