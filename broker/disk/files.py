"""Files that are whole whenever one looks, on the disk once they are written, and for their owner alone."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PRIVATE = 0o600
PUBLIC = 0o644

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_SUFFIX_BYTES = 8
# Some file systems cannot have a folder synced, and some folders may not be opened. PostgreSQL, too, goes on then
# (`fsync_fname_ext` in src/common/file_utils.c).
_FOLDERS_NOT_SYNCED = (errno.EACCES, errno.EBADF, errno.EINVAL)


class ExposedFile(Exception):
    """Others may read a private file. The message names it and the remedy."""


def replace(path: Path, data: bytes, mode: int = PRIVATE) -> None:
    """Put a file in the place of what was there, in one step, and have it on the disk.

    Writers do not disturb each other, and the last one's file stays. `mode` is lessened by the process's umask.

    Raises:
        OSError: it cannot be written. What was there before still is.
    """
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(_SUFFIX_BYTES)}")
    try:
        _write(fresh, data, mode)
        # A crash until here leaves what was there before, and `fresh`, which nobody reads.
        fresh.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):
            fresh.unlink()
    # A crash here may lose the new name, and then the file that was there before is there again.
    _sync_folder(path.parent)


def create(path: Path, data: bytes) -> None:
    """Write a private file where there is none, and have it on the disk before anything refers to it.

    Raises:
        OSError: it cannot be written, or there is one (FileExistsError).
    """
    _write(path, data, PRIVATE)
    _sync_folder(path.parent)


def read_private(path: Path) -> bytes:
    """Read a file that must be its owner's alone.

    Raises:
        ExposedFile: others may read it, or do more.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & _OTHERS:
            raise ExposedFile(f"{path}: others may read this private key; run `chmod 600 {path}`")
        return file.read()


@contextmanager
def by_turns(folder: Path) -> Iterator[None]:
    """Read and write in a folder while nobody else does who asks for a turn; where that cannot be had, go on without.

    The turn is flock(2)'s: whatever ends the process gives it back.
    """
    descriptor = None
    try:
        with suppress(OSError):  # a folder that may not be opened, or a file system without locks
            descriptor = os.open(folder, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def passing(data: bytes) -> Iterator[Path]:
    """Keep a secret in a file for the time of a block, for what takes secrets by a file's name alone."""
    descriptor, name = tempfile.mkstemp(prefix="credbroker-")  # of mode 0600
    path = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        yield path
    finally:
        path.unlink()


def _write(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        if error.errno in _FOLDERS_NOT_SYNCED:
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _FOLDERS_NOT_SYNCED:
            raise
    finally:
        os.close(descriptor)
