"""`credbroker db`: the schema."""

from __future__ import annotations

from contextlib import closing

import click

from broker.cli.database import database_option, using_database
from broker.cli.output import output_option, show


@click.group()
def db() -> None:
    """Bring a database to the newest schema."""


@db.command()
@database_option
@output_option
def upgrade(database: str) -> None:
    """Create the tables, or bring them to the schema of this version. Doing it twice is no error.

    A SQLite file is upgraded while no broker runs on it, because a broker holds it for itself.

    \b
    credbroker db upgrade --database postgresql://credbroker@db.example.org/credbroker
    """
    from broker.store import migrate
    from broker.store.sole import sole_writer

    with using_database(database, exists=False), sole_writer(database):
        show({"revision": migrate.upgrade(database)})


@db.command()
@database_option
@output_option
def current(database: str) -> None:
    """Show the schema that a database is at, and the one that this version needs.

    \b
    credbroker db current --database /var/lib/credbroker/broker.db
    """
    from broker.store import migrate

    with using_database(database, exists=True):
        revision, newest = migrate.current(database), migrate.newest()
    show({"revision": revision or "empty", "newest": newest, "up_to_date": revision == newest})


@db.command()
@database_option
@output_option
def contract(database: str) -> None:
    """Say that brokers of this version alone run on a database: the last step of an upgrade from one to the next.

    Brokers of the version before keep no register of their verifiers. Until this is said, each barrier waits for a
    whole window, as they may have some. Doing it twice is no error.

    \b
    credbroker db contract --database postgresql://credbroker@db.example.org/credbroker
    """
    from broker.store import migrate
    from broker.store.database import open_database
    from broker.store.register import forget_unregistered

    with using_database(database, exists=True), closing(open_database(database, at_leisure=True)) as opened:
        migrate.require_newest(database)
        show({"contracted": forget_unregistered(opened)})
