"""Bring a database to the schema of this version, with Alembic."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from broker.store.database import DatabaseProblem, open_database

_PACKAGE = Path(__file__).parents[1]


def upgrade(url: str) -> str:
    """Upgrade a database to the newest revision, and give it. Brokers that start at once do it one after the other.

    Raises:
        DatabaseProblem: a newer version has been here.
    """
    config = _config()
    database = open_database(url, at_leisure=True)
    try:
        with database.transaction() as connection:
            if database.is_remote:
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(4201987)")
            _refuse_unknown(config, MigrationContext.configure(connection).get_current_revision())
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        database.close()
    return newest()


def require_newest(url: str) -> None:
    """Make sure that a database needs no upgrade.

    Raises:
        DatabaseProblem: it does, or a newer version has been here.
    """
    revision = current(url)
    _refuse_unknown(_config(), revision)
    if revision != newest():
        raise DatabaseProblem(
            f"its schema is at revision {revision or 'nothing'}, and this version needs {newest()}: "
            "run `credbroker db upgrade`, or set database.migrate"
        )


def current(url: str) -> str | None:
    """Return the revision a database is at; None if it is empty."""
    database = open_database(url, at_leisure=True)
    try:
        with database.engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    finally:
        database.close()


def newest() -> str:
    """Return the revision that this version needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None  # noqa: S101 (there is at least the first migration)
    return head


def _refuse_unknown(config: Config, revision: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision is not None and revision not in known:
        raise DatabaseProblem(f"its schema is at revision {revision}, of a newer version: install that, or a later one")


def _config() -> Config:
    # Beside the package in the repository; inside it once installed.
    inside = _PACKAGE / "_migrations"
    config = Config()
    config.set_main_option("script_location", str(inside if inside.is_dir() else _PACKAGE.parent / "migrations"))
    return config
