"""`--database`: a URL, or a SQLite file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click


def database_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--database`."""
    return click.option(
        "--database",
        required=True,
        envvar="CREDBROKER_DATABASE",
        show_envvar=True,
        metavar="FILE|URL",
        help="A SQLite file, or postgresql://USER@HOST/NAME.",
    )(command)


@contextmanager
def using_database(text: str, *, exists: bool) -> Iterator[None]:
    """Work with a database; with `exists`, refuse a SQLite file that is not there: opening it would make one.

    Raises:
        click.UsageError: it is no database.
        DatabaseProblem: it fails; the message has the driver's words.
    """
    from broker.store.database import plain_problems

    _check(text, exists=exists)
    with plain_problems():
        yield


@contextmanager
def naming_database(url: str) -> Iterator[None]:
    """Name the database, if it fails.

    Raises:
        DatabaseProblem: it fails.
    """
    from broker.store.database import DatabaseProblem, plain_problems, shown_url

    try:
        with plain_problems():
            yield
    except DatabaseProblem as problem:
        remedy = (
            "" if "; " in str(problem) else "; see that it runs, that it is a database, and that database.url is right"
        )
        raise DatabaseProblem(f"database.url {shown_url(url)}: {problem}{remedy}") from problem


def _check(text: str, *, exists: bool) -> None:
    from broker.store.database import parse_url

    try:
        url = parse_url(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--database") from None
    if exists and url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        raise click.BadParameter(f"there is no file `{url.database}`", param_hint="--database")
