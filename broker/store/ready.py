"""A database that is ready to be written to: at the newest schema, and by nobody else if it is a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from broker.store import migrate
from broker.store.database import Database, open_database
from broker.store.sole import sole_writer


@contextmanager
def ready_database(url: str, *, upgrade: bool = True) -> Iterator[Database]:
    """Open a database for the time of a block, and be the only process that writes to it. May wait for a server.

    Raises:
        DatabaseProblem: another process writes to it, or its schema is of another version, and `upgrade` is not asked.
    """
    with held_database(url, upgrade=upgrade), closing(open_database(url)) as database:
        yield database


@contextmanager
def held_database(url: str, *, upgrade: bool = True) -> Iterator[None]:
    """Make a database ready for this process and those that it forks, without opening it; else as `ready_database`.

    Raises:
        DatabaseProblem: as `ready_database`.
    """
    with sole_writer(url):
        prepare = migrate.upgrade if upgrade else migrate.require_newest
        prepare(url)
        yield
