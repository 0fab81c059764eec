"""A database for a while: made on a PostgreSQL server, and dropped again. For what tries the broker out."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL, create_engine, text

from broker.store.database import DatabaseProblem, parse_url, plain_problems


@contextmanager
def scratch_database(server: str) -> Iterator[str]:
    """Make a database on the server that a URL names, and yield its URL; drop it after the block, whoever uses it.

    Raises:
        DatabaseProblem: the server is none of PostgreSQL, or makes no database; the message has its words.
    """
    url = _parsed(server)
    made = url.set(database=f"credbroker_scratch_{secrets.token_hex(6)}")
    _say(url, f'CREATE DATABASE "{made.database}"')
    try:
        yield made.set(drivername=made.get_backend_name()).render_as_string(hide_password=False)
    finally:
        _say(url, f'DROP DATABASE "{made.database}" WITH (FORCE)')


def _parsed(server: str) -> URL:
    try:
        url = parse_url(server)
    except ValueError as error:
        raise DatabaseProblem(str(error)) from None
    if url.get_backend_name() != "postgresql":
        raise DatabaseProblem(f"`{server}` is a file, and no server: write postgresql://USER@HOST/NAME")
    return url


def _say(server: URL, statement: str) -> None:
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    try:
        with plain_problems(), engine.connect() as connection:
            connection.execute(text(statement))
    finally:
        engine.dispose()
