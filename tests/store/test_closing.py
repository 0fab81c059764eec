"""A database that is closed keeps no connection, whoever has one just then; and none is lost before there is a use."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
from sqlalchemy import Connection, make_url, text

from broker.model.errors import Refusal
from broker.store.database import open_database
from tests.support.fakes import eventually

USERS = 3


@pytest.mark.postgres
async def test_connections_in_use_are_closed_when_they_are_given_back(
    postgresql_with_schema: Callable[[], str],
) -> None:
    database = open_database(postgresql_with_schema())
    used, over = list[Connection](), threading.Event()

    def use(connection: Connection) -> object:
        used.append(connection)
        over.wait(60)
        return connection.connection.driver_connection

    reading = [asyncio.create_task(database.read(use)) for _ in range(USERS)]
    await eventually(lambda: len(used) == USERS)
    database.close()
    over.set()
    for driver in await asyncio.gather(*reading):
        assert getattr(driver, "closed", False)


@pytest.mark.postgres
async def test_a_connection_that_is_made_only_then_is_closed(postgresql_with_schema: Callable[[], str]) -> None:
    database = open_database(postgresql_with_schema())
    began, over = threading.Event(), threading.Event()

    def read_late() -> object:
        began.set()
        over.wait(60)
        return database.read_now(lambda connection: connection.connection.driver_connection)

    reading = asyncio.create_task(database.run(read_late))
    await eventually(began.is_set)
    database.close()
    over.set()
    assert getattr(await reading, "closed", False)


async def test_what_waits_for_a_thread_comes_to_its_end(database_url: str) -> None:
    whole = open_database(database_url)
    database, over = whole.apart("one thread"), threading.Event()
    before = asyncio.create_task(database.run(lambda: over.wait(60)))
    waiting = asyncio.create_task(database.read(lambda connection: connection.execute(text("SELECT 7")).scalar_one()))
    await asyncio.sleep(0)  # both have asked for the thread
    database.close()
    over.set()
    async with asyncio.timeout(60):
        assert await before
        assert await waiting == 7
    whole.close()


@pytest.mark.postgres
def test_a_connection_that_fails_in_its_first_statement_is_closed(postgresql_with_schema: Callable[[], str]) -> None:
    url = postgresql_with_schema()
    database = open_database(url)
    with database.transaction() as connection:
        connection.execute(text("CREATE SCHEMA odd"))
        body = "$$ BEGIN RAISE 'not now'; END $$"
        connection.execute(text(f"CREATE FUNCTION odd.pg_backend_pid() RETURNS int LANGUAGE plpgsql AS {body}"))
        name = make_url(url).database
        connection.execute(text(f'ALTER DATABASE "{name}" SET search_path = odd, pg_catalog, public'))
    database.close()
    for at_leisure in (False, True):
        other = open_database(url, at_leisure=at_leisure)
        with pytest.raises(Refusal, match="cannot be read"):  # and pytest hears of a connection that is left open
            other.read_now(lambda connection: connection.execute(text("SELECT 1")))
        other.close()
