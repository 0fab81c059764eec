"""The register of the brokers of a SQLite file: in a file of its own beside it, which no disk is waited for.

What is in it must outlive a broker that is killed, and need not outlive the machine: after that, and where the file
has gone, nothing is known of who may be fresh. Whoever holds the lock of the database opens it first.

A full disk keeps no verifier out: file and log have the room that they need from the start.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from sqlalchemy import event

from broker.store import ledger, register
from broker.store.database import UNAVAILABLE, Database
from broker.store.failures import Undecided
from broker.store.schema import register_metadata

_SUFFIX = ".live"
_LAYOUT = "1"
_ROOM = 1 << 20  # bytes: for some thousand verifiers, and for the log of as many turns as are copied at once
_PAGES_OF_LOG = 64  # after which it is written from its start again; a disk is not waited for


def open_register(database: Database, boot_id: str) -> tuple[Database, bool]:
    """Open the register of a database; report whether all are in it whom a broker may have kept fresh."""
    if database.is_remote:
        return database.apart("register"), True
    path = Path(os.path.realpath(str(database.engine.url.database)))
    file = path.with_name(path.name + _SUFFIX)
    if _is_of(file, boot_id):
        return _opened(database, file), True
    is_complete = database.read_now(ledger.head) is None
    _make(file, boot_id)
    opened = _opened(database, file)
    if not is_complete:
        with opened.transaction() as connection:
            register.add_strangers(connection)  # for whoever opens the file while they may be fresh
    return opened, is_complete


def _opened(database: Database, file: Path) -> Database:
    opened = database.apart("register", database.engine.url.set(database=str(file)))
    event.listen(opened.engine, "connect", _prepare)
    register_metadata.create_all(opened.engine)
    with suppress(*UNAVAILABLE, Undecided):  # the disk is full already: it has what it has
        _take_room(opened)
    return opened


def _prepare(driver: sqlite3.Connection, _record: object) -> None:
    driver.execute("PRAGMA synchronous = OFF")
    driver.execute(f"PRAGMA wal_autocheckpoint = {_PAGES_OF_LOG}")


def _take_room(register: Database) -> None:
    """Let the file and its log grow, for a time when they cannot: SQLite gives back the room of neither."""
    with register.transaction() as connection:
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS room (bytes BLOB)")
        connection.exec_driver_sql("INSERT INTO room VALUES (zeroblob(?))", (_ROOM,))
    with register.transaction() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS room")


def _make(file: Path, boot_id: str) -> None:
    for old in (file, file.with_name(file.name + "-wal"), file.with_name(file.name + "-shm")):
        old.unlink(missing_ok=True)
    with closing(sqlite3.connect(file)) as connection:
        for name, number in _mark(boot_id).items():
            connection.execute(f"PRAGMA {name} = {number}")


def _is_of(file: Path, boot_id: str) -> bool:
    """Report whether a file was made by brokers of this layout since the machine was started."""
    if not (boot_id and file.exists()):
        return False
    try:
        with closing(sqlite3.connect(file)) as connection:
            return all(
                connection.execute(f"PRAGMA {name}").fetchone()[0] == number for name, number in _mark(boot_id).items()
            )
    except sqlite3.Error:
        return False


def _mark(boot_id: str) -> dict[str, int]:
    """Return the two numbers that SQLite keeps in a file's head for its users."""
    digest = hashlib.sha256(f"{_LAYOUT} {boot_id}".encode()).digest()
    return {
        "application_id": int.from_bytes(digest[:4], signed=True),
        "user_version": int.from_bytes(digest[4:8], signed=True),
    }
