"""How a process of a bench is told what to do: each line of JSON on stdin is a plan, each on stdout an outcome."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from typing import Any

Plans = asyncio.Queue[dict[str, Any]]
"""What is still to be done, in order."""


async def carry_out(work: Callable[[Plans], Coroutine[Any, Any, None]]) -> None:
    """Let `work` carry out plans until stdin ends, in the middle of one too: the bench has ended then.

    Raises:
        ExceptionGroup: with what `work` has failed with.
    """
    plans: Plans = asyncio.Queue()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with asyncio.TaskGroup() as group:
        working = group.create_task(work(plans))
        while line := await reader.readline():
            plans.put_nowait(json.loads(line))
        working.cancel()


def say(outcome: dict[str, Any]) -> None:
    """Write an outcome."""
    print(json.dumps(outcome), flush=True)
