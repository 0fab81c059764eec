"""What was read last from some files: what is broken, or gone, never replaces what is good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from broker.model.errors import CannotStart

_Value = TypeVar("_Value")


class SvidFileError(CannotStart):
    """An SVID's files cannot be used. The message names the file and the remedy, and never what is in it."""


class Kept(Generic[_Value]):
    """A value that is read again when one of its files has changed. `problem` says why it is not the newest."""

    def __init__(self, paths: Sequence[Path], read: Callable[[], _Value]) -> None:
        """Read it for the first time; `read` raises SvidFileError.

        Raises:
            SvidFileError: it cannot be used.
        """
        self._paths = paths
        self._read = read
        self.problem: str | None = None
        self._stamp = self._look()
        self.value = read()

    def refresh(self) -> bool:
        """Read again if a file is another than the one that was good; report whether there is something new."""
        try:
            stamp = self._look()
            fresh = stamp != self._stamp
            if fresh:
                self.value = self._read()
        except SvidFileError as error:
            self.problem = str(error)
            return False
        self._stamp, self.problem = stamp, None
        return fresh

    def _look(self) -> list[tuple[int, int, int]]:
        try:
            seen = [path.stat() for path in self._paths]
        except OSError as error:
            raise SvidFileError(f"{error.filename}: {error.strerror}") from error
        return [(file.st_mtime_ns, file.st_size, file.st_ino) for file in seen]
