"""How a command that we start gets its token: by a file or an open descriptor, which are for its eyes alone.

Not by its arguments or its environment, which other processes read, and which end in crash reports and logs.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from broker.disk import files
from broker.sdk.client.secret import Secret
from broker.sdk.guard.mcp.stdio import TOKEN_FD_VARIABLE, TOKEN_FILE_VARIABLE


@dataclass(frozen=True, slots=True)
class Handover:
    """Where the token is. `put` writes it, and writes the next one over it.

    `named` is the environment variable that tells the command where it is, and its value; `descriptors` are those that
    the command inherits.
    """

    named: tuple[str, str]
    put: Callable[[Secret], None] = field(repr=False)
    descriptors: tuple[int, ...] = ()

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """Return the command's environment. What the base says of an outer command's token is left out."""
        name, value = self.named
        kept = {key: text for key, text in base.items() if key not in (TOKEN_FILE_VARIABLE, TOKEN_FD_VARIABLE)}
        return {**kept, name: value}


@contextmanager
def by_file() -> Iterator[Handover]:
    """Hand over by a file (mode 0600) that is replaced, never half written, in a folder that is gone after the block.

    Raises:
        OSError: it cannot be made.
    """
    with tempfile.TemporaryDirectory(prefix="credbroker-", dir=_runtime_folder()) as folder:  # mode 0700
        path = Path(folder, "token")
        yield Handover((TOKEN_FILE_VARIABLE, str(path)), lambda token: files.replace(path, token.reveal().encode()))


@contextmanager
def by_descriptor() -> Iterator[Handover]:
    """Hand over by the descriptor of a file without a name, to be read from its start each time.

    Raises:
        OSError: it cannot be made.
    """
    with tempfile.TemporaryFile(dir=_runtime_folder(), buffering=0) as file:
        descriptor = file.fileno()

        def put(token: Secret) -> None:
            text = token.reveal().encode()
            os.pwrite(descriptor, text, 0)  # in one piece, and without moving the command's own place in the file
            os.ftruncate(descriptor, len(text))

        yield Handover((TOKEN_FD_VARIABLE, str(descriptor)), put, (descriptor,))


def _runtime_folder() -> str | None:
    """Return the user's runtime folder, which is in memory; None, for the temporary folder, if there is none."""
    folder = os.environ.get("XDG_RUNTIME_DIR")
    return folder if folder and os.access(folder, os.W_OK | os.X_OK) else None
