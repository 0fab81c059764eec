"""The steps of the ledger's writer from begin to release, and how to die at one of them.

The child that runs the broker wraps the functions that stand at a step: the product has no hook for it.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from broker.store import committer, ledger, opening, writer
from broker.store.database import Database
from broker.store.marks import Marks
from broker.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Step:
    """A point in the writer's way: before or after a function, which is an attribute of a module or class."""

    owner: Any
    function: str
    after: bool

    def die_at(self, passes: int) -> None:
        """Kill this process, as `kill -9` does, when it passes here for so many times from now on."""
        original: Callable[..., Any] = getattr(self.owner, self.function)
        left = passes

        def passing() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        @functools.wraps(original)
        def wrapped(*args: Any, **named: Any) -> Any:
            if not self.after:
                passing()
            result = original(*args, **named)
            if self.after:
                passing()
            return result

        setattr(self.owner, self.function, wrapped)


STEPS: Mapping[str, Step] = MappingProxyType(
    {
        "begun": Step(Database, "begin", after=True),
        "head locked": Step(ledger, "lock_head", after=True),
        "changes run": Step(Transaction, "write", after=False),
        "written": Step(Transaction, "write", after=True),
        "signed": Step(opening, "signed_head", after=True),
        "head moved": Step(ledger, "advance", after=True),
        "before the commit": Step(committer, "_finish", after=False),
        "after the commit": Step(committer, "_finish", after=True),
        "before the mark": Step(Marks, "_write", after=False),
        "mark beside": Step(Path, "replace", after=False),
        "after the mark": Step(Marks, "_write", after=True),
        "before the release": Step(writer, "_tell", after=False),
        "token made": Step(writer, "_made", after=True),
    }
)
"""Where a broker can die. The mark's steps are passed beside the others, up to a second later."""
