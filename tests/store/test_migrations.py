"""The migrations make what the code expects."""

from __future__ import annotations

import re

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from broker.store import migrate
from broker.store.database import DatabaseProblem, open_database
from broker.store.schema import metadata


def test_migrations_make_the_schema_of_the_code(database_url: str) -> None:
    database = open_database(database_url)
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    database.close()


def test_migrations_make_what_a_fresh_create_all_makes(tmp_path_factory: object, tmp_path: object) -> None:
    """Alembic compares no partial indexes and no table options; the text of SQLite's own schema holds them all."""
    made = []
    for make in ("migrated", "created"):
        database = open_database(f"sqlite:///{tmp_path}/{make}.db")
        if make == "migrated":
            migrate.upgrade(f"sqlite:///{tmp_path}/{make}.db")
        else:
            metadata.create_all(database.engine)
        with database.engine.connect() as connection:
            rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
            made.append({name: _normal(sql) for name, sql in rows if not name.startswith("alembic")})
        database.close()
    assert made[0] == made[1]


def test_an_upgrade_twice_changes_nothing(empty_database_url: str) -> None:
    assert migrate.current(empty_database_url) is None
    assert migrate.upgrade(empty_database_url) == migrate.upgrade(empty_database_url) == migrate.newest()
    assert migrate.current(empty_database_url) == migrate.newest()
    database = open_database(empty_database_url)
    assert set(metadata.tables) <= set(inspect(database.engine).get_table_names())
    database.close()


def _normal(sql: str) -> str:
    """Write a statement without what does not matter: space, quotation marks, and the order of its parts."""
    inner = sql[sql.index("(") + 1 : sql.rindex(")")]
    parts = sorted(" ".join(part.replace('"', "").split()) for part in re.split(r",\s+(?![^()]*\))", inner))
    return f"{sql[: sql.index('(')].split()[1]} {parts} {sql[sql.rindex(')') + 1 :].strip()}".replace('"', "")


def test_a_database_that_a_newer_version_has_changed_is_left_alone(database_url: str) -> None:
    database = open_database(database_url)
    with database.transaction() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    for prepare in (migrate.upgrade, migrate.require_newest):
        with pytest.raises(DatabaseProblem, match="9999, of a newer version"):
            prepare(database_url)


def test_a_database_without_the_schema_is_refused_where_it_may_not_be_made(empty_database_url: str) -> None:
    with pytest.raises(DatabaseProblem, match="run `credbroker db upgrade`"):
        migrate.require_newest(empty_database_url)
    migrate.upgrade(empty_database_url)
    migrate.require_newest(empty_database_url)
