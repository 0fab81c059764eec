"""What lives as long as the daemon: none of it ends by itself, and nothing of it runs unwatched."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class PartEnded(Exception):
    """A part that must live as long as the daemon has ended. The cause is what it ended with, if it was an error."""


class Crew:
    """The tasks that must live. The first that ends, ends the daemon."""

    def __init__(self) -> None:
        """Make an empty crew."""
        self._tasks: list[asyncio.Task[None]] = []
        self._own: list[asyncio.Task[None]] = []

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Start a work, which is cancelled when the crew is dismissed."""
        task = asyncio.create_task(work, name=name)
        self._own.append(task)
        self.watch(task)

    def watch(self, task: asyncio.Task[None]) -> None:
        """Watch a task that is started and stopped elsewhere."""
        self._tasks.append(task)

    async def wait(self, stop: asyncio.Event) -> None:
        """Wait until told to stop.

        Raises:
            PartEnded: one of them has ended.
        """
        told = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([told, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            told.cancel()
        for task in self._tasks:
            if task.done():
                error = None if task.cancelled() else task.exception()
                raise PartEnded(f"the part `{task.get_name()}` has ended: {error!r}") from error

    async def dismiss(self) -> None:
        """End those that were started here, and wait for that."""
        for task in self._own:
            task.cancel()
        await asyncio.gather(*self._own, return_exceptions=True)
