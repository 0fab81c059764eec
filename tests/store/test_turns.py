"""Processes that share a file write to it by turns: who waits is next, and who dies holds nobody up."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.store import migrate
from broker.store.database import Database, open_database
from broker.store.sqlite import WouldWait
from broker.store.turns import Turns
from tests.support.waiting import wait_for


@contextmanager
def child(work: Callable[[], None]) -> Iterator[int]:
    """Do something in a fork of this process, for the time of a block at the most."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def is_next(turns: Turns) -> bool:
    """Report whether somebody waits for the turn that we have."""
    try:
        fcntl.lockf(turns._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
    except OSError:
        return True
    fcntl.lockf(turns._descriptor, fcntl.LOCK_UN, 1, 0)
    return False


def size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def test_who_waits_comes_before_who_has_just_been(tmp_path: Path) -> None:
    turns, order = Turns(), tmp_path / "order"

    def once() -> None:
        turns.take()
        order.write_text("the other ")
        turns.leave()

    turns.take()
    with child(once):
        wait_for(lambda: is_next(turns))
        turns.leave()
        turns.take()
        assert order.read_text() == "the other "


def test_a_turn_ends_with_its_process(tmp_path: Path) -> None:
    turns, taken = Turns(), tmp_path / "taken"

    def for_ever() -> None:
        turns.take()
        taken.write_text("yes")
        signal.pause()

    with child(for_ever) as pid:
        wait_for(lambda: size(taken) > 0)
        os.kill(pid, signal.SIGKILL)
        turns.take()  # and this test ends
    turns.leave()


def test_a_turn_that_others_have_or_wait_for_is_not_taken_at_once(tmp_path: Path) -> None:
    turns, taken, over = Turns(), tmp_path / "taken", tmp_path / "over"

    def for_a_while() -> None:
        turns.take()
        taken.write_text("yes")
        wait_for(lambda: size(over) > 0)

    assert turns.take_at_once()
    assert turns.take_at_once()  # it is ours
    with child(for_a_while):
        wait_for(lambda: is_next(turns))
        turns.leave()
        assert not turns.take_at_once()
        wait_for(lambda: size(taken) > 0)
        assert not turns.take_at_once()
        over.write_text("yes")
        wait_for(turns.take_at_once)
    turns.leave()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A file, which is shared."""
    url = str(tmp_path / "broker.db")
    migrate.upgrade(url)
    database = open_database(url, turns=Turns())
    yield database
    database.close()


def is_free(database: Database, note: Path) -> bool:
    """Report whether another process gets its turn."""
    assert database.turns is not None
    turns = database.turns

    def once() -> None:
        turns.take()
        note.write_text("yes")

    with child(once):
        wait_for(lambda: size(note) > 0 or is_next(turns))
        return size(note) > 0


def test_a_transaction_is_a_turn_however_it_ends(database: Database, tmp_path: Path) -> None:
    with database.transaction():
        assert not is_free(database, tmp_path / "within")
    assert is_free(database, tmp_path / "committed")
    with pytest.raises(ValueError, match="undone"), database.transaction():
        raise ValueError("undone")
    assert is_free(database, tmp_path / "undone")
    connection = database.begin()
    connection.invalidate()
    assert is_free(database, tmp_path / "broken off")
    (tmp_path / "broker.db").unlink()
    with pytest.raises(Exception, match="gone"):
        database.begin()
    assert is_free(database, tmp_path / "never begun")


async def test_who_waits_for_a_turn_keeps_it_for_the_next_transaction(database: Database, tmp_path: Path) -> None:
    await database.wait_for_turn()
    assert not is_free(database, tmp_path / "waited for")
    with database.transaction():
        assert not is_free(database, tmp_path / "begun")
    assert is_free(database, tmp_path / "over")
    await database.wait_for_turn()
    database.leave_turn()
    assert is_free(database, tmp_path / "left")


def test_over_a_kept_connection_nothing_is_begun_out_of_turn(database: Database, tmp_path: Path) -> None:
    kept, taken, over = database.begin(), tmp_path / "taken", tmp_path / "over"
    kept.commit()
    database.leave_turn()
    assert is_free(database, tmp_path / "kept")
    database.begin(kept)
    assert not is_free(database, tmp_path / "begun")
    kept.commit()
    database.leave_turn()

    def for_a_while() -> None:
        assert database.turns is not None
        database.turns.take()
        taken.write_text("yes")
        wait_for(lambda: size(over) > 0)

    with child(for_a_while):
        wait_for(lambda: size(taken) > 0)
        with pytest.raises(WouldWait):
            database.begin(kept)
        assert kept.closed
        over.write_text("yes")
        database.begin().close()
    assert is_free(database, tmp_path / "closed")


def test_a_file_with_turns_is_shared_and_not_remote(database: Database, tmp_path: Path) -> None:
    assert database.is_shared
    assert not database.is_remote
    assert database.apart("writer").turns is database.turns
    assert not open_database(str(tmp_path / "broker.db")).is_shared
