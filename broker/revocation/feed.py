"""The revocation feed: what verifiers hear, what they confirm, and until when they believe it. The doors call this.

It lives on the event loop, and carries the conversation between `freshness` and `peers`, which decide, the ledger,
which `polling` looks at, the register, in which `membership` takes turns, and the queues of `publishing`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial

import structlog

from broker.lease.withheld import Withheld
from broker.model.clock import Ids
from broker.model.errors import Hints, Reason, Refusal
from broker.model.principal import Principal
from broker.model.selector import RevocationRule, Selector
from broker.revocation import closing
from broker.revocation.answers import Answers
from broker.revocation.barrier import NEVER, Barrier, Session
from broker.revocation.closing import Closing
from broker.revocation.freshness import Freshness
from broker.revocation.membership import Membership, Place
from broker.revocation.peers import Peers
from broker.revocation.polling import Poller, wait
from broker.revocation.publishing import Applied, Confirmed, Publisher, Update, first_updates
from broker.store import notices
from broker.store.database import Database
from broker.store.follower import Follower
from broker.store.ledger import LedgerMismatch

FRESHNESS = timedelta(seconds=10)
_HEARTBEAT_SECONDS = 3.0
_SOONEST_SECONDS = 0.001


class Feed:
    """All verifiers that listen to this broker."""

    def __init__(
        self,
        database: Database,
        follower: Follower,
        place: Place,
        monotonic: Callable[[], float],
        ids: Ids,
        secrets: Callable[[], bytes],
    ) -> None:
        """Make a feed of the rules that a follower derives from the ledger; its `parts` bring it to life."""
        self._database = database
        self._follower = follower
        self._monotonic = monotonic
        self._ids = ids
        self._secrets = secrets
        self._freshness = Freshness(FRESHNESS.total_seconds())
        self._peers = Peers(FRESHNESS.total_seconds() + self._freshness.drift)
        self._publisher = Publisher(lambda: (self._newest, follower.note))
        self._poller = Poller(database, follower, self._freshness, self._publish, monotonic)
        self._membership = Membership(place, self._freshness, self._peers, monotonic, ids, self._heard, self._ended)
        self._answers = Answers(self._freshness, self._peers, self._membership, monotonic, self._ask)
        self._progress = asyncio.Event()
        self._closed = False
        self._announced = follower.in_force.announced
        self.withheld = Withheld()
        self.tell_withheld: Callable[[Selector], None] = _tell_nobody
        if not place.is_complete:
            self._peers.strangers_until = monotonic() + self._peers.patience

    def parts(self) -> Mapping[str, Coroutine[None, None, None]]:
        """Return what brings it to life, by name, each to run until cancelled.

        They publish rules as they are recorded, by this broker or another, and go on over a database that cannot be
        read. Anything else ends them: from then on nobody is kept fresh.
        """
        parts: dict[str, Callable[[], Coroutine[None, None, None]]] = {
            "feed": partial(self._poller.run, self._publisher.ask_all),
            "register": self._membership.run,
            "answers": self._answers.run,
        }
        if self._database.is_remote:
            parts["notices"] = partial(notices.listen, self._database, self.told)
        return {name: self._closing(part) for name, part in parts.items()}

    async def _closing(self, part: Callable[[], Coroutine[None, None, None]]) -> None:
        try:
            await part()
        finally:
            self.close()

    def problem(self) -> str | None:
        """Return what is wrong, if the rules could not be read for some time."""
        if self._closed:
            return "no freshness is granted any more"
        return self._poller.problem() or self._membership.problem()

    def wake(self) -> None:
        """Say that rules may have been recorded."""
        self._poller.wake()

    def withhold(self, selector: Selector) -> None:
        """Keep no verifier of a tenant fresh until a rule with this selector is published: it could not be recorded."""
        self.withhold_here(selector)
        self.tell_withheld(selector)

    def withhold_here(self, selector: Selector) -> None:
        """Do what `withhold` does, but for telling it to others with whom we are one broker."""
        self.withheld.add(selector)
        self._publisher.end(self.withheld.concerns)
        structlog.get_logger("feed").critical("freshness.stopped", tenant=selector.tenant)

    def close(self) -> None:
        """Keep nobody fresh from now on, and let every verifier go."""
        self._closed = True
        self._poller.first_look.set()
        self._publisher.end(lambda _tenant: True)

    async def watch(
        self,
        principal: Principal,
        resume_index: int | None,
        checkpoint: str = "",
        secret: str = "",
        confirmations: AsyncIterator[Applied] | None = None,
    ) -> AsyncIterator[Update]:
        """Yield a verifier's messages: a snapshot, or what it has missed; then each rule, and heartbeats.

        The `checkpoint` that it shows, a signed note, proves what our ledger must hold. The `secret` is that of its
        last session, here or at another broker, which ends when it has confirmed in this one. Its `confirmations`, if
        they come this way, are answered among the messages, which end with them.
        """
        await self._poller.first_look.wait()
        self._check_open(principal.tenant)
        session = self._freshness.join(self._ids(), principal.id, principal.tenant, self._monotonic())
        own_secret = base64.urlsafe_b64encode(self._secrets()).decode()
        session.secret_hash = _hash(own_secret)
        listener = self._publisher.add(session)  # what is published while we read waits there, and applies twice
        hearing: asyncio.Task[None] | None = None
        try:
            try:
                await self._membership.enter(session, _hash(secret) if secret else b"")
                updates = await self._catch_up(session, resume_index, checkpoint, own_secret)
            except BaseException:
                session.fresh_until = NEVER  # it was sent nothing
                raise
            for update in updates:
                yield update
            hearing = None if confirmations is None else self._begin_to_hear(principal, session, confirmations)
            while session.connected:
                yield await listener.next(_HEARTBEAT_SECONDS) or self._publisher.news(listener)
            self._check_open(principal.tenant)
            if hearing is not None and hearing.done():
                hearing.result()
                return
            raise Refusal(Reason.UNAVAILABLE, "the verifier reads the feed too slowly", Hints(next="watch again"))
        finally:
            if hearing is not None:
                hearing.cancel()
            self._publisher.remove(listener)
            session.connected = False

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
        if session.former:
            self._end_former(session)
        if self._freshness.any_closed():
            self._progress.set()
            self._answers.wake()
        return timedelta(seconds=max(0.0, until - now))

    def _begin_to_hear(
        self, principal: Principal, session: Session, confirmations: AsyncIterator[Applied]
    ) -> asyncio.Task[None]:
        """Hear a verifier; when it confirms no more, or says what it must not, let it go: its stream tells it why."""

        def over(hearing: asyncio.Task[None]) -> None:
            if not hearing.cancelled():
                hearing.exception()  # it is raised in the stream, if that still goes on
            self._publisher.let_go(session)

        hearing = asyncio.create_task(self._hear(principal, session, confirmations))
        hearing.add_done_callback(over)
        return hearing

    async def _hear(self, principal: Principal, session: Session, confirmations: AsyncIterator[Applied]) -> None:
        """Take confirmations from a stream, and answer them there."""
        async for confirmation in confirmations:
            freshness = self.confirm(principal, session.id, confirmation.index)
            self._publisher.answer(session, Confirmed(confirmation.number, freshness))

    async def barrier(self, index: int, tenant: str, within: timedelta | None = None) -> Closing:
        """Wait until no verifier can accept what the rule at `index`, which is committed and of a tenant, covers.

        With `within`, wait no longer than that, and say how far it is closed.
        """
        began = self._monotonic()
        here, elsewhere = self._freshness.barrier(index, tenant), self._peers.barrier(index, tenant, began)
        give_up_at = None if within is None else began + within.total_seconds()
        self.wake()
        self._membership.hold(tenant, index)
        try:
            while not (here.is_over(now := self._monotonic()) and elsewhere.is_over(now)):
                if give_up_at is not None and now >= give_up_at:
                    return closing.not_closed(here, elsewhere, now)
                self._ask(here)
                ends = [] if here.is_over(now) else [here.next_at()]
                ends += [] if elsewhere.is_over(now) else [elsewhere.next_at(now)]
                ends += [] if give_up_at is None else [give_up_at]
                self._progress.clear()
                await wait(self._progress, max(_SOONEST_SECONDS, min(ends) - now))
            return closing.closed(here, elsewhere)
        finally:
            self._freshness.let_go(here)
            self._membership.let_go(tenant, index)

    @property
    def _newest(self) -> int:
        return -1 if self._freshness.newest is None else self._freshness.newest

    async def _catch_up(
        self, session: Session, resume_index: int | None, checkpoint: str, secret: str
    ) -> Iterable[Update]:
        """Bring a verifier to where the feed is.

        The verifier called before we read, and counts its first window from then: no later than we do.
        """
        index = self._newest
        try:
            await self._database.read(self._follower.catch_up)
            self._follower.shown(checkpoint)
            self._follower.refuse_behind()
        except LedgerMismatch as error:
            raise error.refusal() from error
        in_force, note = self._follower.in_force, self._follower.note
        self._freshness.caught_up(session, in_force.last_rule)
        if resume_index is None or resume_index > index:
            rules = in_force.relevant(session.tenant)
            return first_updates(session, rules, index, note, snapshot=True, secret=secret)
        missed = [rule for rule in in_force.rules(after=resume_index) if session.serves(rule.selector.tenant)]
        return first_updates(session, missed, index, note, snapshot=False, secret=secret)

    def _ask(self, barrier: Barrier) -> None:
        """Have those confirm for whom a barrier waits, once we have sent them its rule."""
        if self._newest >= barrier.index:
            names = {session.id for session in barrier.waits_for(self._monotonic())} - barrier.asked
            barrier.asked |= names
            self._publisher.ask(names)

    def told(self) -> None:
        """Look for what is new: another broker says that there is something."""
        self._poller.wake()
        self._membership.wake()

    def _heard(self) -> None:
        """Go on with what other brokers say in the register."""
        self._progress.set()
        self._answers.wake()

    def _ended(self, session: Session) -> None:
        """End a session whose verifier has confirmed in another, here or elsewhere."""
        self._freshness.end(session)
        self._publisher.let_go(session)
        self._heard()

    def _end_former(self, session: Session) -> None:
        """End the last session of a verifier that has confirmed in this one; and the one before, if that had not."""
        former, session.former = session.former, ""
        self._membership.end(former)
        if (here := self._freshness.sessions.get(former)) is not None:
            self._ended(here)
            if here.former:
                self._end_former(here)

    def _publish(self, rules: Sequence[RevocationRule]) -> None:
        for rule in rules:
            self.withheld.settle(rule.selector)
        if self._announced is not self._follower.in_force.announced:
            self._announced = self._follower.in_force.announced
            self._publisher.keys_changed()
        if rules:
            self._freshness.asked(self._publisher.publish(rules, self._freshness.to_ask()))
            self._heard()

    def _check_open(self, tenant: str) -> None:
        """Refuse to keep a verifier of a tenant fresh, if that is over."""
        if self._closed:
            raise Refusal(Reason.UNAVAILABLE, "the broker is shutting down", Hints(next="watch again"))
        self.withheld.check(tenant)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _tell_nobody(_selector: Selector) -> None:
    """Be alone."""
