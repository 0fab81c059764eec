"""The revocation feed: who listens, what they have confirmed, and when they stop believing by themselves.

Everything here lives on the event loop. Why it is sound is told in `freshness`, in pure values.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import structlog

from broker.lease.withheld import Withheld
from broker.model.clock import Clock, Ids
from broker.model.errors import Hints, Reason, Refusal
from broker.model.principal import Principal
from broker.model.selector import Rule, Selector
from broker.revocation.freshness import NEVER, Barrier, Looks, Receipt, Session
from broker.store.database import Database
from broker.store.follower import Follower
from broker.store.ledger import LedgerMismatch

FRESHNESS = timedelta(seconds=10)
_HEARTBEAT_SECONDS = 3.0
_POLL_SECONDS = 0.25  # how late another broker's rule may be noticed
_FILE_POLL_SECONDS = 1.0  # by how much less than a window a verifier may be made fresh
_BEHIND_SECONDS = 3.0
_MOST_QUEUED = 10_000
_CHUNK = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One message to a verifier; the fields are those of `RevocationUpdate`."""

    session_id: str
    rules: Sequence[Rule]
    index: int
    snapshot: bool = False
    confirm: bool = False
    keys_changed: bool = False
    more: bool = False
    tenant: str
    checkpoint: str = ""


@dataclass(frozen=True, slots=True)
class _Listener:
    """A verifier, and what waits to be sent to it."""

    session: Session
    queue: asyncio.Queue[Update]


class Feed:
    """All verifiers that listen to this broker."""

    def __init__(self, database: Database, follower: Follower, clock: Clock, ids: Ids) -> None:
        """Make a feed of the rules that a follower derives from the ledger; `run` brings it to life."""
        self._database = database
        self._follower = follower
        self._line = database.apart("feed")
        self._clock = clock
        self._ids = ids
        self._listeners: dict[str, _Listener] = {}
        self.withheld = Withheld()
        self._looks = Looks(FRESHNESS.total_seconds())
        self._first_look = asyncio.Event()
        self._wake = asyncio.Event()
        self._progress = asyncio.Event()
        self._closed = False
        self._born = time.monotonic()
        # Verifiers of this broker's former life may be fresh for that long, unknown to this one.
        self._strangers_until = self._born + FRESHNESS.total_seconds()

    async def run(self) -> None:
        """Publish rules as they are recorded, by this broker or another, until cancelled.

        Outlives a database that cannot be read. Anything else ends it: from then on nobody is kept fresh.
        """
        log, reachable = structlog.get_logger("feed"), True
        try:
            while True:
                try:
                    await self._look()
                except (Refusal, LedgerMismatch) as error:
                    if reachable:
                        log.warning("feed.database_unavailable", problem=str(error))
                    reachable = False
                    await asyncio.sleep(_POLL_SECONDS)
                    continue
                if not reachable:
                    reachable = True
                    log.info("feed.database_available")
                    self._ask(self._listeners.values())
                # A file, too: a commit that was reported as failed may have succeeded, and nobody has woken us then.
                await _wait(self._wake, _POLL_SECONDS if self._database.is_shared else _FILE_POLL_SECONDS)
        finally:
            self.close()
            self._line.close()

    def problem(self) -> str | None:
        """Return what is wrong, if the rules could not be read for some time."""
        behind = time.monotonic() - max(self._looks.began, self._born)
        return None if behind < _BEHIND_SECONDS and not self._closed else "the revocation rules cannot be read"

    def wake(self) -> None:
        """Say that rules may have been recorded."""
        self._wake.set()

    def keys_changed(self) -> None:
        """Tell every verifier to fetch the key set."""
        for listener in self._listeners.values():
            self._send(listener, keys_changed=True)

    def withhold(self, selector: Selector) -> None:
        """Keep no verifier of a tenant fresh until a rule with this selector is published: it could not be recorded."""
        self.withheld.add(selector)
        structlog.get_logger("feed").critical("freshness.stopped", tenant=selector.tenant)
        for listener in self._listeners.values():
            if self.withheld.concerns(listener.session.tenant):
                self._send(listener)  # which ends its wait
                listener.session.connected = False

    def close(self) -> None:
        """Let every verifier go, so that a broker that stops need not wait for them."""
        self._closed = True
        self._first_look.set()
        for listener in self._listeners.values():
            self._send(listener)

    async def watch(
        self, principal: Principal, resume_index: int | None, checkpoint: str = ""
    ) -> AsyncIterator[Update]:
        """Return a verifier its messages: a snapshot, or what it has missed; then each rule, and heartbeats.

        The `checkpoint` that it shows, a signed note, proves what our ledger must hold.
        """
        await self._first_look.wait()
        if self._closed:
            raise _closing()
        self.withheld.check(principal.tenant)
        session = Session(self._ids(), principal.id, principal.tenant)
        listener = _Listener(session, asyncio.Queue(_MOST_QUEUED))
        self._listeners[session.id] = listener
        try:
            async for update in self._catch_up(session, resume_index, checkpoint):
                yield update
            while session.connected and not self._closed:
                try:
                    yield await asyncio.wait_for(listener.queue.get(), _HEARTBEAT_SECONDS)
                except TimeoutError:
                    yield self._update(session)
            if self._closed:
                raise _closing()
            self.withheld.check(principal.tenant)
            raise Refusal(Reason.UNAVAILABLE, "the verifier reads the feed too slowly", Hints(next="watch again"))
        finally:
            session.connected = False
            self._forget_stale()

    def confirm(self, principal: Principal, session_id: str, index: int) -> timedelta:
        """Take a verifier's confirmation that it is at an index; tell for how long that keeps it fresh.

        Raises:
            Refusal: FEED_SESSION_UNKNOWN.
        """
        listener = None if self._closed else self._listeners.get(session_id)
        if listener is None or listener.session.principal != principal.id or not listener.session.connected:
            raise Refusal(
                Reason.FEED_SESSION_UNKNOWN, "there is no such feed session", Hints(next="watch revocations again")
            )
        now = time.monotonic()
        until = self._looks.confirm(listener.session, index, now)
        self._progress.set()
        return timedelta(seconds=max(0.0, until - now))

    async def barrier(self, index: int, tenant: str) -> Receipt:
        """Wait until no verifier can accept what the rule at `index`, which is committed and of a tenant, covers."""
        barrier = Barrier(index, tenant, [listener.session for listener in self._listeners.values()])
        self.wake()
        asked: set[str] = set()
        # Other brokers have verifiers of their own: give those the time to hear of it, or to lose their freshness.
        strangers_until = _freshness_from_now() if self._database.is_shared else self._strangers_until
        while True:
            now = time.monotonic()
            waiting = barrier.waits_for(now)
            if self._newest >= index:
                names = {session.id for session in waiting} - asked
                asked |= names
                self._ask(self._listeners[name] for name in names if name in self._listeners)
            if not waiting and now >= strangers_until:
                return barrier.over()
            ends = [session.fresh_until for session in waiting] + [strangers_until] * (now < strangers_until)
            self._progress.clear()
            await _wait(self._progress, max(0.001, min(ends) - now))

    @property
    def _newest(self) -> int:
        return -1 if self._looks.newest is None else self._looks.newest

    async def _look(self) -> None:
        """Follow the ledger, and publish the rules that are new."""
        began, newest = time.monotonic(), self._looks.newest
        await self._line.read(self._follower.catch_up)
        found = [] if newest is None else self._follower.in_force.rules(after=newest)
        self._looks.looked(began, self._follower.in_force.last_rule if newest is None else _last(found, newest))
        self._publish(found)
        self._first_look.set()

    async def _catch_up(self, session: Session, resume_index: int | None, checkpoint: str) -> AsyncIterator[Update]:
        """Bring a verifier to where the feed is. What is published meanwhile waits in its queue, and applies twice.

        The verifier called before we read, and counts its first window from then: no later than we do.
        """
        index = self._newest
        resumed = resume_index is not None and resume_index <= index
        session.fresh_until = _freshness_from_now()
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
        if resume_index is not None and resumed:
            found = [rule for rule in in_force.rules(after=resume_index) if session.serves(rule.selector.tenant)]
        else:
            found = in_force.relevant(session.tenant)
        chunks = [found[start : start + _CHUNK] for start in range(0, len(found), _CHUNK)] or [[]]
        for number, chunk in enumerate(chunks, 1):
            yield Update(
                session_id=session.id,
                rules=chunk,
                index=index,
                snapshot=not resumed and number == 1,
                keys_changed=number == 1,
                more=number < len(chunks),
                tenant=session.tenant,
                checkpoint=self._follower.note,
            )

    def _publish(self, found: Sequence[Rule]) -> None:
        if not found:
            return
        for rule in found:
            self.withheld.settle(rule.selector)
        for listener in self._listeners.values():
            mine = [rule for rule in found if listener.session.serves(rule.selector.tenant)]
            if mine:
                self._send(listener, mine)
        self._progress.set()

    def _ask(self, listeners: Iterable[_Listener]) -> None:
        """Ask verifiers to confirm at once."""
        for listener in listeners:
            self._send(listener, confirm=True)

    def _send(
        self, listener: _Listener, found: Sequence[Rule] = (), *, confirm: bool = False, keys_changed: bool = False
    ) -> None:
        """Queue a message. A verifier that lets the queue fill up is cut off: it goes stale, and watches again."""
        session = listener.session
        if not session.connected:
            return
        try:
            listener.queue.put_nowait(self._update(session, found, confirm=confirm, keys_changed=keys_changed))
        except asyncio.QueueFull:
            session.connected = False

    def _update(
        self, session: Session, found: Sequence[Rule] = (), *, confirm: bool = False, keys_changed: bool = False
    ) -> Update:
        return Update(
            session_id=session.id,
            rules=found,
            index=self._newest,
            confirm=confirm,
            keys_changed=keys_changed,
            tenant=session.tenant,
            checkpoint="" if found else self._follower.note,
        )

    def _forget_stale(self) -> None:
        now = time.monotonic()
        sessions = [listener.session for listener in self._listeners.values()]
        for session in sessions:
            if not session.connected and session.fresh_until <= now:
                del self._listeners[session.id]


def _closing() -> Refusal:
    return Refusal(Reason.UNAVAILABLE, "the broker is shutting down", Hints(next="watch again"))


def _freshness_from_now() -> float:
    return time.monotonic() + FRESHNESS.total_seconds()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, or for so long; then clear it."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):  # unlike `wait_for`, it waits from this moment on, and misses nothing
            await event.wait()
    event.clear()


def _last(found: Sequence[Rule], before: int) -> int:
    return found[-1].index if found else before
