"""One supervision for whatever must live as long as the daemon: nothing runs unwatched.

1. A part goes on by itself over what means *unavailable*. Any other end, by an error, a return or a cancellation that
   nobody here asked for, is the end of the daemon.
2. That it is over is known at once: what must stop with it, such as granting freshness, stops before anything else is
   done, and before anybody waits.
3. Then the daemon drains, with the other parts alive, since what is under way needs them.
4. The parts that were started here are told to end, and waited for, but not for ever. One that ends badly then, or not
   at all, counts as well.
5. Whatever else had failed by then, the first end is what the daemon ends with: the others follow from it.

    async with Supervisor() as parts:
        parts.when_over(feed.close)
        parts.start("feed", feed.run())
        ...                     # begin to serve
        await parts.wait()      # until told to stop, or raise PartEnded
        ...                     # drain
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

import structlog

_PATIENCE_SECONDS = 5.0


class PartEnded(Exception):
    """A part that must live as long as the daemon has ended. The cause is what it ended with, if it was an error."""


class Supervisor:
    """The parts that must live. The first that ends by itself, ends the daemon."""

    def __init__(self, patience: float = _PATIENCE_SECONDS) -> None:
        """Watch nothing yet; `patience`, in seconds, is for parts that are told to end."""
        self._patience = patience
        self._own: list[asyncio.Task[None]] = []
        self._at_once: list[Callable[[], None]] = []
        self._over = asyncio.Event()
        self._ended: PartEnded | None = None

    async def __aenter__(self) -> Self:
        """Begin."""
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Raise the first end of a part, whatever has followed from it."""
        await self.dismiss()
        if self._ended is not None and error is not self._ended:
            raise self._ended

    def when_over(self, step: Callable[[], None]) -> None:
        """Have a step done in the instant in which the daemon's end is known, or now if it is."""
        self._at_once.append(step)
        if self._over.is_set():
            self._do(step)

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Start a part, which is told to end when the others are dismissed."""
        task = asyncio.create_task(work, name=name)
        self._own.append(task)
        self.watch(task)

    def watch(self, task: asyncio.Task[None]) -> None:
        """Watch a part that is started, and told to end, elsewhere."""
        task.add_done_callback(self._note)

    def stop(self) -> None:
        """Say that it is over, because somebody wants it so."""
        if self._over.is_set():
            return
        self._over.set()
        for step in self._at_once:
            self._do(step)

    async def wait(self) -> None:
        """Wait until it is over.

        Raises:
            PartEnded: because a part has ended.
        """
        await self._over.wait()
        if self._ended is not None:
            raise self._ended

    async def dismiss(self) -> None:
        """Tell the parts that were started here to end, and wait for that."""
        self.stop()
        own, self._own = self._own, []
        for task in own:
            task.cancel()
        if own:
            _, hanging = await asyncio.wait(own, timeout=self._patience)
            for task in hanging:
                self._end(f"the part `{task.get_name()}` does not end", None)

    def _note(self, task: asyncio.Task[None]) -> None:
        """Take note of an end. Once it is over, a part may end, and be cancelled, but not fail."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._end(f"the part `{task.get_name()}` has ended: {error!r}", error)
        elif not self._over.is_set():
            how = "was cancelled" if task.cancelled() else "has returned"
            self._end(f"the part `{task.get_name()}` has ended: it {how}", None)

    def _do(self, step: Callable[[], None]) -> None:
        """Do a step of the end. One that fails keeps no other from being done, and counts as the end of a part does."""
        try:
            step()
        except Exception as error:  # noqa: BLE001 (whatever it is, freshness must end)
            self._end(f"a step of the end has failed: {error!r}", error)

    def _end(self, message: str, cause: BaseException | None) -> None:
        """Keep the first end, and tell of each."""
        ended = PartEnded(message)
        ended.__cause__ = cause
        self._ended = self._ended or ended
        self.stop()
        structlog.get_logger("daemon").critical("daemon.part_ended", problem=message, exc_info=ended)
