"""One process writes to a SQLite file, by whatever name it is called, for as long as that process lives."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.store.database import DatabaseProblem
from broker.store.sole import sole_writer

HOLD = (
    "import sys; from broker.store.sole import sole_writer\nwith sole_writer(sys.argv[1]): print(flush=True); input()"
)


@contextmanager
def held(url: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Let another process hold a database."""
    command = [sys.executable, "-c", HOLD, str(url)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "\n"
        try:
            yield process
        finally:
            process.kill()


def by_its_name(database: Path) -> str:
    return str(database)


def by_url(database: Path) -> str:
    return f"sqlite:///{database}"


def by_a_way_around(database: Path) -> str:
    return str(database.parent / ".." / database.parent.name / database.name)


def by_a_link_to_it(database: Path) -> str:
    link = database.with_name("link.db")
    link.symlink_to(database)
    return str(link)


def by_a_link_to_its_folder(database: Path) -> str:
    link = database.parent.with_name(f"{database.parent.name}-link")
    link.symlink_to(database.parent)
    return str(link / database.name)


def by_a_hard_link(database: Path) -> str:
    other = database.with_name("other.db")
    os.link(database, other)
    return str(other)


NAMES = [by_its_name, by_url, by_a_way_around, by_a_link_to_it, by_a_link_to_its_folder, by_a_hard_link]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("there", [True, False])
def test_a_second_writer_is_told_by_whatever_name(name: Callable[[Path], str], there: bool, tmp_path: Path) -> None:
    database = tmp_path / "broker.db"
    if there or name is by_a_hard_link:
        database.touch()
    with held(database) as process:
        with pytest.raises(DatabaseProblem) as problem, sole_writer(name(database)):
            pytest.fail("there are two")
        assert str(process.pid) in str(problem.value) or "hard links" in str(problem.value)
        assert database.name in str(problem.value) or "other.db" in str(problem.value)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_however_a_process_ends_the_next_one_writes(number: signal.Signals, tmp_path: Path) -> None:
    with held(tmp_path / "broker.db") as process:
        process.send_signal(number)
        process.wait()
        with sole_writer(str(tmp_path / "broker.db")):
            pass


def test_a_process_that_is_stopped_holds_it_still(tmp_path: Path) -> None:
    with held(tmp_path / "broker.db") as process:
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(DatabaseProblem), sole_writer(str(tmp_path / "broker.db")):
            pytest.fail("there are two")


def test_who_reads_is_not_kept_out(tmp_path: Path) -> None:
    database = tmp_path / "broker.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE kept (x)")
    with held(database), sqlite3.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    connection.close()


def test_brokers_on_postgresql_hold_nothing() -> None:
    with sole_writer("postgresql://nobody@nowhere/broker"), sole_writer("postgresql://nobody@nowhere/broker"):
        pass


@pytest.mark.parametrize(
    ("place", "told"),
    [("none/broker.db", "there is no folder"), ("", "is a folder"), ("linked.db", "Too many levels of symbolic links")],
)
def test_where_no_database_can_be_is_named(place: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "linked.db.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DatabaseProblem) as problem, sole_writer(str(tmp_path / place)):
        pytest.fail("there is none")
    assert told in str(problem.value)
    assert str(tmp_path / place) in str(problem.value)
    assert not (tmp_path / "elsewhere").exists()
