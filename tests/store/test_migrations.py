"""The migrations make what the code expects."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from broker.jobs import checkpoint_copy
from broker.model.selector import Selector, Target
from broker.store import effects, ledger, migrate, register
from broker.store.database import DatabaseProblem, open_database
from broker.store.schema import metadata, register_metadata
from broker.store.verification import verify
from tests.support.world import note_signer, opened


def test_migrations_make_the_schema_of_the_code(database_url: str) -> None:
    database = open_database(database_url)
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        expected = [metadata, register_metadata] if database.is_remote else metadata
        assert compare_metadata(context, expected) == []  # type: ignore[arg-type]  # it takes several as well
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


async def test_a_database_of_the_version_before_is_upgraded_and_goes_on(empty_database_url: str) -> None:
    """What was written at revision 0004, which has no effects, is served and verified after the upgrade."""
    upgrade_to("0004", empty_database_url)
    key = note_signer()
    async with opened(empty_database_url, note_key=key) as before:
        task = await before.task()
        issued = await before.issue(task)
        lock_id = await before.lock(Selector("acme", Target.TASK, "another"))
    with pytest.raises(DatabaseProblem, match="run `credbroker db upgrade`"):
        migrate.require_newest(empty_database_url)
    migrate.upgrade(empty_database_url)
    async with opened(empty_database_url, note_key=key, asks=[checkpoint_copy.ask]) as after:
        lease = await after.desk.leases.find(issued.lease.id)
        assert lease is not None
        assert lease.index == issued.lease.index
        await after.unlock(lock_id)
        await after.issue(task)
        assert await after.desk.database.read(lambda connection: effects.next_due(connection, checkpoint_copy.KIND))
        await after.end(task)
    assert not verify(empty_database_url, str(key.vkey)).findings


def test_barriers_wait_for_brokers_of_the_version_before_until_somebody_says_that_none_runs(
    empty_database_url: str,
) -> None:
    upgrade_to("0005", empty_database_url)
    database = open_database(empty_database_url)
    with database.transaction() as connection:
        ledger.start(connection, "broker.example/ledger", "a note")
    migrate.upgrade(empty_database_url)
    assert register.forget_unregistered(database) is database.is_remote
    assert not register.forget_unregistered(database)
    if database.is_remote:
        assert not register.glance(database)
    database.close()


def test_a_new_database_has_no_brokers_of_the_version_before(new_postgresql_url: Callable[[], str]) -> None:
    url = new_postgresql_url()
    migrate.upgrade(url)
    database = open_database(url)
    assert not register.glance(database)
    database.close()


def upgrade_to(revision: str, url: str) -> None:
    config, database = Config(), open_database(url)
    config.set_main_option("script_location", str(Path(__file__).parents[2] / "migrations"))
    with database.transaction() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    database.close()
