"""The revocation feed: what verifiers hear, what they confirm, and until when they believe it. The doors call this.

It lives on the event loop, and carries the conversation between `freshness`, which decides, the ledger, which `polling`
looks at, and the queues of `publishing`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import timedelta

import structlog

from broker.lease.withheld import Withheld
from broker.model.clock import Ids
from broker.model.errors import Hints, Reason, Refusal
from broker.model.principal import Principal
from broker.model.selector import RevocationRule, Selector
from broker.revocation.freshness import NEVER, Freshness, Receipt, Session
from broker.revocation.polling import Poller, wait
from broker.revocation.publishing import Publisher, Update, first_updates
from broker.store.database import Database
from broker.store.follower import Follower
from broker.store.ledger import LedgerMismatch

FRESHNESS = timedelta(seconds=10)
_HEARTBEAT_SECONDS = 3.0
_SOONEST_SECONDS = 0.001


class Feed:
    """All verifiers that listen to this broker."""

    def __init__(self, database: Database, follower: Follower, monotonic: Callable[[], float], ids: Ids) -> None:
        """Make a feed of the rules that a follower derives from the ledger; `run` brings it to life."""
        self._database = database
        self._follower = follower
        self._monotonic = monotonic
        self._ids = ids
        self._freshness = Freshness(FRESHNESS.total_seconds(), born=monotonic())
        self._publisher = Publisher(lambda: (self._newest, follower.note))
        self._poller = Poller(database, follower, self._freshness, self._publish, monotonic)
        self._progress = asyncio.Event()
        self._closed = False
        self._announced = follower.in_force.announced
        self.withheld = Withheld()

    async def run(self) -> None:
        """Publish rules as they are recorded, by this broker or another, until cancelled.

        Goes on over a database that cannot be read. Anything else ends it: from then on nobody is kept fresh.
        """
        try:
            await self._poller.run(self._publisher.ask_all)
        finally:
            self.close()

    def problem(self) -> str | None:
        """Return what is wrong, if the rules could not be read for some time."""
        return "no freshness is granted any more" if self._closed else self._poller.problem()

    def wake(self) -> None:
        """Say that rules may have been recorded."""
        self._poller.wake()

    def withhold(self, selector: Selector) -> None:
        """Keep no verifier of a tenant fresh until a rule with this selector is published: it could not be recorded."""
        self.withheld.add(selector)
        self._publisher.end(self.withheld.concerns)
        structlog.get_logger("feed").critical("freshness.stopped", tenant=selector.tenant)

    def close(self) -> None:
        """Keep nobody fresh from now on, and let every verifier go."""
        self._closed = True
        self._poller.first_look.set()
        self._publisher.end(lambda _tenant: True)

    async def watch(
        self, principal: Principal, resume_index: int | None, checkpoint: str = ""
    ) -> AsyncIterator[Update]:
        """Yield a verifier's messages: a snapshot, or what it has missed; then each rule, and heartbeats.

        The `checkpoint` that it shows, a signed note, proves what our ledger must hold.
        """
        await self._poller.first_look.wait()
        self._check_open(principal.tenant)
        session = self._freshness.join(self._ids(), principal.id, principal.tenant, self._monotonic())
        listener = self._publisher.add(session)  # what is published while we read waits there, and applies twice
        try:
            for update in await self._catch_up(session, resume_index, checkpoint):
                yield update
            while session.connected:
                yield await listener.next(_HEARTBEAT_SECONDS) or self._publisher.news(session)
            self._check_open(principal.tenant)
            raise Refusal(Reason.UNAVAILABLE, "the verifier reads the feed too slowly", Hints(next="watch again"))
        finally:
            self._publisher.remove(listener)
            self._freshness.leave(session, self._monotonic())

    def confirm(self, principal: Principal, session_id: str, index: int) -> timedelta:
        """Take a verifier's confirmation that it is at an index; return for how long that keeps it fresh.

        Raises:
            Refusal: FEED_SESSION_UNKNOWN.
        """
        session = None if self._closed else self._freshness.sessions.get(session_id)
        if session is None or session.principal != principal.id or not session.connected:
            raise Refusal(
                Reason.FEED_SESSION_UNKNOWN, "there is no such feed session", Hints(next="watch revocations again")
            )
        now = self._monotonic()
        until = self._freshness.confirm(session, index, now)
        self._progress.set()
        return timedelta(seconds=max(0.0, until - now))

    async def barrier(self, index: int, tenant: str) -> Receipt:
        """Wait until no verifier can accept what the rule at `index`, which is committed and of a tenant, covers."""
        barrier = self._freshness.barrier(index, tenant, self._monotonic(), alone=not self._database.is_shared)
        self.wake()
        asked: set[str] = set()
        while not barrier.is_over(now := self._monotonic()):
            if self._newest >= index:
                names = {session.id for session in barrier.waits_for(now)} - asked
                asked |= names
                self._publisher.ask(names)
            self._progress.clear()
            await wait(self._progress, max(_SOONEST_SECONDS, barrier.next_at(now) - now))
        return barrier.receipt()

    @property
    def _newest(self) -> int:
        return -1 if self._freshness.newest is None else self._freshness.newest

    async def _catch_up(self, session: Session, resume_index: int | None, checkpoint: str) -> Iterable[Update]:
        """Bring a verifier to where the feed is.

        The verifier called before we read, and counts its first window from then: no later than we do.
        """
        index = self._newest
        try:
            await self._database.read(self._follower.catch_up)
            self._follower.shown(checkpoint)
            self._follower.refuse_behind()
        except LedgerMismatch as error:
            session.fresh_until = NEVER  # it was sent nothing
            raise error.refusal() from error
        except Refusal:
            session.fresh_until = NEVER
            raise
        in_force = self._follower.in_force
        if resume_index is None or resume_index > index:
            rules = in_force.relevant(session.tenant)
            return first_updates(session, rules, index, self._follower.note, snapshot=True)
        missed = [rule for rule in in_force.rules(after=resume_index) if session.serves(rule.selector.tenant)]
        return first_updates(session, missed, index, self._follower.note, snapshot=False)

    def _publish(self, rules: Sequence[RevocationRule]) -> None:
        for rule in rules:
            self.withheld.settle(rule.selector)
        if self._announced is not self._follower.in_force.announced:
            self._announced = self._follower.in_force.announced
            self._publisher.keys_changed()
        self._publisher.publish(rules)
        if rules:
            self._progress.set()

    def _check_open(self, tenant: str) -> None:
        """Refuse to keep a verifier of a tenant fresh, if that is over."""
        if self._closed:
            raise Refusal(Reason.UNAVAILABLE, "the broker is shutting down", Hints(next="watch again"))
        self.withheld.check(tenant)
