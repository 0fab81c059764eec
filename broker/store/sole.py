"""One process writes to a SQLite file: it holds a lock of the operating system on a file beside it, for its whole life.

A second broker would keep copies of tasks and rules that the first has changed, and its verifiers would hear of nothing
that the first revokes. The lock is flock(2): whatever ends the process, SIGKILL too, releases it. It is not on the
database itself, because closing that file would drop the locks that SQLite holds on it (fcntl(2)). Who only reads takes
no lock. Brokers that share a PostgreSQL need none. What the process forks inherits the lock, and writes by turns
(`store.turns`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from broker.store.database import DatabaseProblem, parse_url

_SUFFIX = ".lock"
_LONGEST_NOTE = 64


@contextmanager
def sole_writer(url: str) -> Iterator[None]:
    """Be the only process that writes to a database, for the time of a block.

    Raises:
        DatabaseProblem: another process writes to it, or the file cannot be in the folder where it is said to be.
    """
    path = check_place(url)
    if path is None:
        yield
        return
    descriptor = _open(path)
    try:
        _take(descriptor, path)
        yield
    finally:
        os.close(descriptor)  # the file stays: whoever removed it would let in two, one on each of two files


def writer_of(url: str) -> int | None:
    """Report which process writes to a SQLite file, by what it has noted there; None if none does."""
    path = _file_of(url)
    try:
        noted = "" if path is None else _lock_of(path).read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return None
    if not noted.isdecimal():
        return None
    try:
        os.kill(int(noted), 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # it runs, as another user
    return int(noted)


def check_place(url: str) -> Path | None:
    """Find the SQLite file that a URL names; None for a database of another kind.

    Raises:
        DatabaseProblem: no database can be there, which SQLite would only call "unable to open database file".
    """
    path = _file_of(url)
    if path is not None:
        _check_place(path)
    return path


def _lock_of(path: Path) -> Path:
    return path.with_name(path.name + _SUFFIX)


def _file_of(url: str) -> Path | None:
    """Return the SQLite file behind all symbolic links; None for a database of another kind."""
    parsed = parse_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        return None
    return Path(os.path.realpath(parsed.database))


def _check_place(path: Path) -> None:
    """Name what is wrong with the place of a file."""
    if not path.parent.is_dir():
        raise DatabaseProblem(f"{path}: there is no folder `{path.parent}`: make it, or set database.url to match")
    if path.is_dir():
        raise DatabaseProblem(f"{path}: is a folder: name a file in database.url")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise DatabaseProblem(f"{path}: {_who()} may not write in its folder, where SQLite keeps its journal")
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        raise DatabaseProblem(f"{path}: {_who()} may not read and write it: see its owner and mode")
    names = path.stat().st_nlink if path.exists() else 1
    if names > 1:
        raise DatabaseProblem(
            f"{path}: has {names} names (hard links), and SQLite keeps a journal beside each, which damages the "
            "database: remove all names but one"
        )


def _open(path: Path) -> int:
    lock = _lock_of(path)
    try:
        return os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise DatabaseProblem(f"{lock}: {error.strerror}: it must be a file that {_who()} may write") from error


def _take(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DatabaseProblem(
            f"{path}: process {_holder(descriptor)} writes to it, and we are process {os.getpid()}: stop the one or "
            "the other, or give each a database of its own; only brokers on PostgreSQL share one"
        ) from None
    except OSError as error:
        raise DatabaseProblem(
            f"{path}: cannot be locked: {error.strerror}; put it on a disk of this machine, not on a network's"
        ) from error
    with contextlib.suppress(OSError):  # a full disk, say: the note is for people
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def _holder(descriptor: int) -> str:
    """Read who holds the lock, as the holder has noted it."""
    note = os.pread(descriptor, _LONGEST_NOTE, 0).decode("ascii", "replace").strip()
    return note if note.isdecimal() else "of another"


def _who() -> str:
    return f"user {os.geteuid()}"
