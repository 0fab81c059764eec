"""The revocation feed: who listens, what they have confirmed, and when they stop believing by themselves.

The rule that makes a barrier sound (law 3, docs/decisions/0006): a verifier stays fresh only until `freshness` after it
*sent* its last answered confirmation, or its call to watch; the broker counts the same span from when that *arrived*,
which is later. So a verifier that the broker holds for stale refuses everything already.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from broker.model.clock import Clock, Ids
from broker.model.errors import Hints, Reason, Refusal
from broker.model.principal import ANY_TENANT, Principal
from broker.model.selector import Rule
from broker.store import rules
from broker.store.database import Database

FRESHNESS = timedelta(seconds=10)
_HEARTBEAT_SECONDS = 3.0
_POLL_SECONDS = 0.25  # how late another broker's rule may be noticed
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


@dataclass(frozen=True, slots=True)
class Barrier:
    """Who had confirmed, and who refuses by itself, when the wait was over."""

    confirmed: int
    stale: int


@dataclass(slots=True, eq=False)
class _Session:
    """One verifier. `fresh_until` is on the monotonic clock; `confirmed` is the ledger index it is at."""

    id: str
    principal: str
    tenant: str
    fresh_until: float
    confirmed: int = -1
    connected: bool = True
    queue: asyncio.Queue[Update] = field(default_factory=lambda: asyncio.Queue(_MOST_QUEUED))

    def serves(self, rule: Rule) -> bool:
        """Tell whether a rule concerns this verifier."""
        return self.tenant == ANY_TENANT or rule.selector.tenant in (self.tenant, ANY_TENANT)

    def accepts(self, index: int, now: float) -> bool:
        """Tell whether it may still accept what a rule covers: it is fresh, and has not confirmed."""
        return self.confirmed < index and self.fresh_until > now


class Feed:
    """All verifiers that listen to this broker."""

    def __init__(self, database: Database, clock: Clock, ids: Ids) -> None:
        """Make a feed; `run` brings it to life."""
        self._database = database
        self._line = database.apart("feed")
        self._clock = clock
        self._ids = ids
        self._sessions: dict[str, _Session] = {}
        self._index = -1
        self._published: deque[tuple[int, float]] = deque()  # the newest index, and when, for as long as it matters
        self._long_published = -1
        self._wake = asyncio.Event()
        self._progress = asyncio.Event()
        self._closed = False
        # Verifiers of this broker's former life may be fresh for that long, unknown to this one.
        self._strangers_until = _freshness_from_now()

    async def run(self) -> None:
        """Publish rules as they are recorded, by this broker or another, until cancelled.

        Outlives a database that cannot be read. Anything else ends it: from then on nobody is kept fresh.
        """
        try:
            await self._run()
        finally:
            self.close()
            self._line.close()

    async def _run(self) -> None:
        self._index = await self._line.read(rules.newest)
        log = structlog.get_logger("feed")
        reachable = True
        while True:
            # With a file, too: a commit that was reported as failed may have succeeded, and nobody has woken us then.
            await _wait(self._wake, _POLL_SECONDS if self._database.is_shared else _HEARTBEAT_SECONDS)
            try:
                found = await self._line.read(lambda connection: rules.after(connection, self._index))
            except Refusal as refusal:
                if reachable:
                    log.warning("feed.database_unavailable", reason=refusal.reason.value)
                reachable = False
                await asyncio.sleep(_POLL_SECONDS)
                self._wake.set()
                continue
            reachable = True
            if found:
                self._publish(found)

    def wake(self) -> None:
        """Say that rules may have been recorded."""
        self._wake.set()

    def keys_changed(self) -> None:
        """Tell every verifier to fetch the key set."""
        for session in self._sessions.values():
            self._send(session, keys_changed=True)

    def close(self) -> None:
        """Let every verifier go, so that a broker that stops need not wait for them."""
        self._closed = True
        for session in self._sessions.values():
            self._send(session)

    async def watch(self, principal: Principal, resume_index: int | None) -> AsyncIterator[Update]:
        """Give a verifier its messages: a snapshot, or what it has missed; then each rule, and heartbeats."""
        session = _Session(self._ids(), principal.id, principal.tenant, _freshness_from_now())
        self._sessions[session.id] = session
        try:
            async for update in self._catch_up(session, resume_index):
                yield update
            while session.connected and not self._closed:
                try:
                    yield await asyncio.wait_for(session.queue.get(), _HEARTBEAT_SECONDS)
                except TimeoutError:
                    yield self._update(session)
            why = "the broker is shutting down" if self._closed else "the verifier reads the feed too slowly"
            raise Refusal(Reason.UNAVAILABLE, why, Hints(next="watch again"))
        finally:
            session.connected = False
            self._forget_stale()

    def confirm(self, principal: Principal, session_id: str, index: int) -> timedelta:
        """Take a verifier's confirmation that it is at an index; tell for how long that keeps it fresh.

        Raises:
            Refusal: FEED_SESSION_UNKNOWN.
        """
        session = None if self._closed else self._sessions.get(session_id)
        if session is None or session.principal != principal.id or not session.connected:
            raise Refusal(
                Reason.FEED_SESSION_UNKNOWN, "there is no such feed session", Hints(next="watch revocations again")
            )
        session.confirmed = max(session.confirmed, index)
        fresh_until = self._fresh_until(index)
        session.fresh_until = max(session.fresh_until, fresh_until)
        self._progress.set()
        return timedelta(seconds=max(0.0, fresh_until - time.monotonic()))

    async def barrier(self, index: int) -> Barrier:
        """Wait until no verifier can accept what the rule at `index` covers."""
        self.wake()
        asked: set[str] = set()
        strangers_until = self._strangers_until
        if self._database.is_shared:
            # Other brokers have verifiers of their own: give those the time to hear of it, or to lose their freshness.
            strangers_until = _freshness_from_now() + _POLL_SECONDS
        while True:
            now = time.monotonic()
            waiting = [session for session in self._sessions.values() if session.accepts(index, now)]
            if self._index >= index:
                self._ask(waiting, asked)
            if not waiting and now >= strangers_until:
                return self._count(index, now)
            ends = [session.fresh_until for session in waiting] + [strangers_until] * (now < strangers_until)
            self._progress.clear()
            await _wait(self._progress, max(0.001, min(ends) - now))

    def _ask(self, waiting: Sequence[_Session], asked: set[str]) -> None:
        """Ask verifiers, once each, to confirm at once."""
        for session in waiting:
            if session.connected and session.id not in asked:
                asked.add(session.id)
                self._send(session, confirm=True)

    def _count(self, index: int, now: float) -> Barrier:
        known = [session for session in self._sessions.values() if session.connected or session.fresh_until > now]
        confirmed = sum(session.confirmed >= index for session in known)
        return Barrier(confirmed, len(known) - confirmed)

    async def _catch_up(self, session: _Session, resume_index: int | None) -> AsyncIterator[Update]:
        """Bring a verifier to where the feed is. What is published meanwhile waits in its queue, and applies twice."""
        index = self._index
        now = self._clock()
        if resume_index is None or resume_index > index:
            found = await self._database.read(lambda connection: rules.relevant(connection, session.tenant, now))
        else:
            later = await self._database.read(lambda connection: rules.after(connection, resume_index))
            found = [rule for rule in later if session.serves(rule)]
        snapshot = resume_index is None or resume_index > index
        chunks = [found[start : start + _CHUNK] for start in range(0, len(found), _CHUNK)] or [[]]
        for number, chunk in enumerate(chunks, 1):
            yield Update(
                session_id=session.id,
                rules=chunk,
                index=index,
                snapshot=snapshot and number == 1,
                keys_changed=number == 1,
                more=number < len(chunks),
                tenant=session.tenant,
            )

    def _fresh_until(self, index: int) -> float:
        """Tell until when a verifier at an index is fresh: its bound runs from the first rule that it does not have.

        So a steady flow of rules, of which a confirmation always misses the last few, makes nobody stale.
        """
        now = time.monotonic()
        while self._published and self._published[0][1] <= now - FRESHNESS.total_seconds():
            self._long_published = self._published.popleft()[0]
        if index < self._long_published:
            return now
        missed_at = next((published for newer, published in self._published if newer > index), now)
        return missed_at + FRESHNESS.total_seconds()

    def _publish(self, found: Sequence[Rule]) -> None:
        self._index = found[-1].index
        self._published.append((self._index, time.monotonic()))
        for session in self._sessions.values():
            mine = [rule for rule in found if session.serves(rule)]
            if mine:
                self._send(session, mine)
        self._progress.set()

    def _send(
        self, session: _Session, found: Sequence[Rule] = (), *, confirm: bool = False, keys_changed: bool = False
    ) -> None:
        """Queue a message. A verifier that lets the queue fill up is cut off: it goes stale, and watches again."""
        if not session.connected:
            return
        try:
            session.queue.put_nowait(self._update(session, found, confirm=confirm, keys_changed=keys_changed))
        except asyncio.QueueFull:
            session.connected = False

    def _update(
        self, session: _Session, found: Sequence[Rule] = (), *, confirm: bool = False, keys_changed: bool = False
    ) -> Update:
        return Update(
            session_id=session.id,
            rules=found,
            index=self._index,
            confirm=confirm,
            keys_changed=keys_changed,
            tenant=session.tenant,
        )

    def _forget_stale(self) -> None:
        now = time.monotonic()
        gone = [s.id for s in self._sessions.values() if not s.connected and s.fresh_until <= now]
        for session_id in gone:
            del self._sessions[session_id]


def _freshness_from_now() -> float:
    return time.monotonic() + FRESHNESS.total_seconds()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, or for so long; then clear it."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    event.clear()
