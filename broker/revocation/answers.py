"""Barriers that other brokers hold: each is one here as well, and what comes of it is told in the register."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from broker.revocation.barrier import Barrier
from broker.revocation.closing import MOST_NAMED
from broker.revocation.freshness import FOREVER, Freshness
from broker.revocation.membership import Membership
from broker.revocation.peers import Answer, Peers
from broker.revocation.polling import wait

_SOONEST_SECONDS = 0.001
_LATEST_SECONDS = 1.0
_IDLE_SECONDS = 60.0


class Answers:
    """Closes here what other brokers ask to be closed. `ask` has the verifiers confirm for whom a barrier waits."""

    def __init__(
        self,
        freshness: Freshness,
        peers: Peers,
        membership: Membership,
        monotonic: Callable[[], float],
        ask: Callable[[Barrier], None],
    ) -> None:
        """Answer nothing yet; `run` brings it to life."""
        self._freshness, self._peers, self._membership = freshness, peers, membership
        self._monotonic, self._ask = monotonic, ask
        self._open: dict[str, list[Barrier]] = {}
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Look again: somebody asks, or has confirmed."""
        self._wake.set()

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            self._begin()
            next_at = self._finish()
            seconds = min(max(_SOONEST_SECONDS, next_at - self._monotonic()), _LATEST_SECONDS)
            await wait(self._wake, seconds if self._open else _IDLE_SECONDS)

    def _begin(self) -> None:
        """Begin a barrier on each rule that is asked for and that we know; forget what nobody asks for any more."""
        asked, newest = self._peers.asked(), self._freshness.newest
        for tenant, index in asked.items():
            held = [barrier.index for barrier in self._open.get(tenant, ())]
            answered = self._membership.answers.get(tenant, Answer()).closed
            if newest is not None and max([answered, *held]) < index <= newest:
                self._open.setdefault(tenant, []).append(self._freshness.barrier(index, tenant))
        for tenant in self._open.keys() - asked.keys():
            for barrier in self._open.pop(tenant):
                self._freshness.let_go(barrier)
        for tenant in self._membership.answers.keys() - asked.keys():
            self._membership.forget(tenant)

    def _finish(self) -> float:
        """Tell what is closed, and for whom the rest waits; return when somebody may be stale."""
        now, next_at = self._monotonic(), FOREVER
        for tenant, barriers in list(self._open.items()):
            for barrier in list(barriers):
                if barrier.is_over(now):
                    self._close(tenant, barrier)
                    barriers.remove(barrier)
                else:
                    self._ask(barrier)
                    next_at = min(next_at, barrier.next_at())
            if barriers:
                self._membership.await_(tenant, *self._awaited(barriers[-1], now))
            else:
                del self._open[tenant]
        return next_at

    def _close(self, tenant: str, barrier: Barrier) -> None:
        receipt = barrier.receipt()
        self._freshness.let_go(barrier)
        if barrier.index > self._membership.answers.get(tenant, Answer()).closed:
            answer = Answer(closed=barrier.index, confirmed=receipt.confirmed, stale=receipt.stale)
            self._membership.answer(tenant, answer)

    def _awaited(self, barrier: Barrier, now: float) -> tuple[tuple[tuple[str, str], ...], int]:
        """Name for whom a barrier waits: of all tenants together no more than one answer may name."""
        names = [(session.tenant, session.principal) for session in barrier.waits_for(now)]
        named = tuple(names[: max(1, MOST_NAMED // len(self._open))])
        return named, len(names) - len(named)
