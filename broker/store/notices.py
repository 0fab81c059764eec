"""Notices between brokers on one PostgreSQL (LISTEN/NOTIFY): that something new is there to be read, and no more.

They make nothing true: whoever misses one reads by the clock a little later. A pooler that gives each transaction
another session passes none on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import psycopg
import structlog
from sqlalchemy import Connection, text

from broker.store.database import UNAVAILABLE, Database
from broker.store.failures import cause

_CHANNEL = "credbroker"
_TELL = text(f"SELECT pg_notify('{_CHANNEL}', '')")
_RETRY_SECONDS = 1.0


def tell(connection: Connection) -> None:
    """Wake all brokers on the database when this transaction is committed."""
    if connection.dialect.name == "postgresql":
        connection.execute(_TELL)


async def listen(database: Database, wake: Callable[[], None]) -> None:
    """Call `wake` whenever a broker, perhaps this one, has told something; until cancelled.

    Goes on over a database that cannot be reached: it is tried anew.
    """
    own, log, reachable = database.apart("notices"), structlog.get_logger("notices"), True
    held: list[Connection] = []  # also one that is made when nobody waits for it any more
    try:
        while True:
            try:
                await own.run(lambda: held.append(own.engine.connect()))
                try:
                    await _hear(own, held[-1], wake)
                finally:
                    _release(held)
            except (*UNAVAILABLE, psycopg.Error) as error:
                if reachable:
                    log.warning("notices.unavailable", problem=cause(error))
                reachable = False
                await asyncio.sleep(_RETRY_SECONDS)
    finally:
        own.threads.submit(_release, held)
        own.threads.shutdown(wait=False)
        own.engine.dispose()


def _release(held: list[Connection]) -> None:
    while held:
        connection = held.pop()
        connection.invalidate()
        connection.close()


async def _hear(own: Database, connection: Connection, wake: Callable[[], None]) -> None:
    """Wake as long as the connection lives."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 (of PostgreSQL)
    await own.run(lambda: driver.execute(f"LISTEN {_CHANNEL}"))
    loop, readable, descriptor = asyncio.get_running_loop(), asyncio.Event(), driver.fileno()
    loop.add_reader(descriptor, readable.set)
    try:
        while True:
            wake()  # first for what was told before we listened
            await readable.wait()
            readable.clear()
            driver.pgconn.consume_input()
            while driver.pgconn.notifies():
                pass
    finally:
        loop.remove_reader(descriptor)
