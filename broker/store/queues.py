"""What waits for the ledger, and what of it goes into the next batch: what takes away has the right of way.

An urgent change (a revocation, the end of a task, a lock) waits for none that came before it, but for the batch that is
being committed: the next batch has all that are urgent, and few others, so that it is soon durable.

That an urgent change overtakes others is nothing that a caller can tell from another order of arrival: all of them are
under way at once, and none has been answered. What was answered before a revocation was asked for has a smaller index,
and is covered. What it overtakes is decided upon behind it: after the end of a task, or under a lock, it is refused.

Within its batch it comes last: a rule covers the leases with smaller indexes, so every lease that becomes durable
together with it is dead when its token is released. The others are the oldest that wait, and have their place in each
batch, so that no flood of urgent changes keeps them waiting for ever.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from broker.store.gathering import Gathering
from broker.store.transaction import Change

_LARGEST_BATCH = 512
_MOST_BESIDE_URGENT = 64
_FEW = 16  # callers, for whom a millisecond that nobody uses is much
_LOOK_AROUND = 16  # batches: each so-many-th waits for whoever may come;
_SELDOM = 128  # at the least
_MOST_WAITING = 20_000
_REFUSALS_PER_BATCH = 16
_MOST_REFUSALS_WAITING = 1_000


@dataclass(frozen=True, slots=True)
class Waiting:
    """A change, and who waits for it."""

    change: Change[object]
    future: asyncio.Future[object]


class Queues:
    """Changes that are urgent, the others, and refusals to be recorded: each in the order in which they came."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self.urgent: deque[Waiting] = deque()
        self.others: deque[Waiting] = deque()
        self.refusals: deque[Waiting] = deque()
        self._gathering = Gathering(self.others, self.urgent)
        self._callers = 1  # of whom we know: as many as were in a batch, or had come by its end
        self._batches = 0
        self._look_around = _LOOK_AROUND

    def __len__(self) -> int:
        """Count all that wait."""
        return len(self.urgent) + len(self.others) + len(self.refusals)

    def is_full(self, change: Change[object]) -> bool:
        """Report whether too many wait already for another change like this one."""
        return len(self.urgent if change.urgent else self.others) >= _MOST_WAITING

    def add(self, change: Change[object]) -> asyncio.Future[object]:
        """Let a change wait; return what it waits with."""
        future = _put(self.urgent if change.urgent else self.others, change)
        self._gathering.joined()
        return future

    def add_refusal(self, change: Change[object]) -> asyncio.Future[object] | None:
        """Let the record of a refusal wait; None if too many do already, and it is to be counted."""
        return None if len(self.refusals) >= _MOST_REFUSALS_WAITING else _put(self.refusals, change)

    async def gather(self) -> None:
        """Let changes that are on their way join the next batch, as long as they keep coming and none is urgent.

        Of few callers no more are waited for than we know of: whoever calls alone is served at once. Now and then it
        waits nevertheless, to hear of others: those who are on their way while few are served would come too late again
        and again, and each group have batches of its own.
        """
        if self._callers > _FEW:
            await self._gathering.until_quiet(_LARGEST_BATCH)
        elif self._batches % self._look_around:
            await self._gathering.until_quiet(self._callers)
        elif self:
            await self._gathering.until_quiet(_LARGEST_BATCH)
            found = len(self.others) > self._callers
            self._look_around = _LOOK_AROUND if found else min(2 * self._look_around, _SELDOM)

    def served(self, batch: Sequence[Waiting]) -> None:
        """Take note that a batch is durable: whoever was in it may call again."""
        seen = min(len(batch) + len(self.others), _LARGEST_BATCH)
        self._callers = max(seen, self._callers * 7 // 8)  # one batch may miss most of them
        self._batches += 1

    def take(self) -> list[Waiting]:
        """Take the next batch, and a bounded number of refusals behind it. Who waits no more is left out."""
        urgent = _first(self.urgent, _LARGEST_BATCH)
        others = _first(self.others, _MOST_BESIDE_URGENT if urgent else _LARGEST_BATCH)
        batch = [*others, *urgent, *_first(self.refusals, _REFUSALS_PER_BATCH)]
        return [waiting for waiting in batch if not waiting.future.cancelled()]

    def take_all(self) -> list[Waiting]:
        """Take everything that waits."""
        return [waiting for queue in (self.urgent, self.others, self.refusals) for waiting in _first(queue, len(queue))]


def _put(queue: deque[Waiting], change: Change[object]) -> asyncio.Future[object]:
    future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    queue.append(Waiting(change, future))
    return future


def _first(queue: deque[Waiting], most: int) -> list[Waiting]:
    if len(queue) > most:
        return [queue.popleft() for _ in range(most)]
    first = list(queue)
    queue.clear()
    return first
