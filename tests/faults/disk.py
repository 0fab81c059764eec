"""A disk that is full, for a broker whose SQLite file is on it.

A tmpfs of a few megabytes in a mount namespace of its own is the real thing, and needs no root where users may make
such namespaces. Where they may not (in most containers), the kernel's limit on the size of a file has to do: a write
that would make one grow fails, too, only with another error (EFBIG, much as EDQUOT where a quota is used up).
"""

from __future__ import annotations

import errno
import resource
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

_SIZE = "48m"
_MOUNT = 'mkdir -p "$0" && mount -t tmpfs -o size=' + _SIZE + ' tmpfs "$0" && echo mounted && exec cat'
_PIECE = 65_536


class Disk(ABC):
    """What a broker's database is on. `start` stands before the command of a process that is to see it."""

    start: Sequence[str] = ()
    gives_room: ClassVar[bool] = True  # to one file what another has given up

    @abstractmethod
    def fill(self, pid: int) -> None:
        """Let no file of a broker grow any more."""

    @abstractmethod
    def clear(self, pid: int) -> None:
        """Make room again."""

    @abstractmethod
    def seen(self) -> Path:
        """Return where its folder is to be found from outside."""


@dataclass(frozen=True)
class Tmpfs(Disk):
    """A small tmpfs; `holder` is a process that keeps its namespace."""

    folder: Path
    holder: int

    @property
    def start(self) -> Sequence[str]:  # type: ignore[override]
        """Enter the namespace."""
        return ("nsenter", "--target", str(self.holder), "--user", "--preserve-credentials", "--mount", "--")

    def fill(self, pid: int) -> None:
        """Fill it with a file, to the last byte."""
        with (self.seen() / "filler").open("ab", buffering=0) as file:
            for size in (_PIECE, 1):
                try:
                    while file.write(b"\0" * size):
                        pass
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def clear(self, pid: int) -> None:
        """Take the file away."""
        (self.seen() / "filler").unlink()

    def seen(self) -> Path:
        """Look through the process that keeps it."""
        return Path(f"/proc/{self.holder}/root{self.folder}")


@dataclass(frozen=True)
class FileLimit(Disk):
    """An ordinary disk, and a limit on the size of files."""

    gives_room: ClassVar[bool] = False
    folder: Path

    def fill(self, pid: int) -> None:
        """Set the limit to the size of the log that SQLite writes ahead, which grows with each transaction."""
        _limit(pid, (self.folder / "broker.db-wal").stat().st_size)

    def clear(self, pid: int) -> None:
        """Lift the limit."""
        _limit(pid, resource.RLIM_INFINITY)

    def seen(self) -> Path:
        """It is where it is."""
        return self.folder


@contextmanager
def small_disk(folder: Path) -> Iterator[Disk]:
    """Mount a small disk in a folder for the time of a block: the most real one that may be had."""
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _MOUNT, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as holder:
        assert holder.stdout is not None
        if holder.stdout.readline():
            yield Tmpfs(folder, holder.pid)
        else:
            folder.mkdir(exist_ok=True)
            yield FileLimit(folder)


def _limit(pid: int, size: int) -> None:
    hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
