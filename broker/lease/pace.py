"""Housekeeping at the ledger's head, in small steps, so that who waits for a credential hardly notices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from broker.lease.desk import Desk
from broker.store.transaction import Change, Transaction

_OTHERS = 4  # a fifth of the writer's time is for housekeeping, the rest for those who call
_SHORTEST_REST = 0.01  # seconds


async def in_steps(desk: Desk, step: Callable[[Transaction], int], size: int) -> int:
    """Run a step again and again, until it has found less than `size` to do; return the sum of what it did.

    After each, the writer is left to others for four times as long as the step took there: its own work is counted, not
    how long it waited, so that it neither pushes in when the broker is busy nor falls behind for ever.

    Raises:
        Refusal: LEDGER_UNAVAILABLE; what was done by then stays done.
    """
    total, spent = 0, 0.0

    def timed(transaction: Transaction) -> int:
        nonlocal spent
        began = time.perf_counter()
        done = step(transaction)
        spent = time.perf_counter() - began
        return done

    while True:
        done = await desk.ledger.write(Change(timed))
        total += done
        if done < size:
            return total
        await asyncio.sleep(max(_SHORTEST_REST, _OTHERS * spent))
