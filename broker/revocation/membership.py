"""This broker's place in the register: what it says there of itself and its verifiers, and what it reads of the others.

All of that is done in turns, each of which is one transaction; a verifier that comes waits for the turn that puts it on
record. Turns come when something is to be said or was heard, else by the clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import structlog

from broker.model.clock import Ids
from broker.model.errors import Hints, Reason, Refusal
from broker.revocation.barrier import NEVER, Session
from broker.revocation.freshness import FOREVER, Freshness
from broker.revocation.peers import Answer, Peer, Peers
from broker.revocation.polling import wait
from broker.store import register
from broker.store.database import Database
from broker.store.register import Reading, Said, StoredBroker, StoredSession

_BEAT_SECONDS = 1.0  # by so much less than a window a verifier may be kept fresh
_POLL_SECONDS = 0.25  # how late it may be noticed what another broker asks or answers
_RETRY_SECONDS = 0.25
_LATE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where the register is, and who we are in it.

    `is_shared`: other brokers read it, so that whoever is not on record in time keeps nobody fresh. `is_complete`: all
    are in it whom a broker of the ledger may keep fresh. `tell` wakes the others, where the database does not.
    """

    database: Database
    name: str
    version: str
    is_shared: bool
    is_complete: bool
    tell: Callable[[], None] = lambda: None


@dataclass(slots=True)
class _Coming:
    """A verifier that waits to be put on record."""

    session: Session
    shown: bytes  # the hash of the secret of its last session
    future: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Membership:
    """Takes turns at the register. `heard` is called after each, `ended` with a session that has ended elsewhere."""

    def __init__(
        self,
        place: Place,
        freshness: Freshness,
        peers: Peers,
        monotonic: Callable[[], float],
        ids: Ids,
        heard: Callable[[], None],
        ended: Callable[[Session], None],
    ) -> None:
        """Be on record nowhere yet; `run` brings it to life."""
        self.answers: dict[str, Answer] = {}
        self._place, self._freshness, self._peers = place, freshness, peers
        self._monotonic, self._ids, self._heard, self._ended = monotonic, ids, heard, ended
        self._id = ids()
        self._asked: dict[str, list[int]] = {}
        self._coming: list[_Coming] = []
        self._on_record: set[str] = set()
        self._over: set[str] = set()
        self._told: tuple[dict[str, int], dict[str, int]] = ({}, {})
        self._telling = self._told
        self._said_at, self._born = NEVER, monotonic()
        self._began = False
        self._beat = 0
        self._wake = asyncio.Event()
        self._is_over = False
        if place.is_shared:
            freshness.ceiling = NEVER

    async def run(self) -> None:
        """Take turns until cancelled. Goes on over a register that cannot be reached."""
        log, reachable = structlog.get_logger("register"), True
        try:
            while True:
                try:
                    await self._turn()
                except Refusal as refusal:
                    if reachable:
                        log.warning("register.unavailable", problem=refusal.message)
                    reachable = False
                    await asyncio.sleep(_RETRY_SECONDS)
                    continue
                if not reachable:
                    log.info("register.available")
                reachable = True
                await wait(self._wake, _POLL_SECONDS if self._peers.known else _BEAT_SECONDS)
        finally:
            self._is_over = True
            _tell(self._coming, _over())
            self._place.database.close()

    def wake(self) -> None:
        """Take a turn at once: something was told, or is to be said."""
        self._wake.set()

    async def enter(self, session: Session, shown: bytes) -> None:
        """Put a verifier on record, and find the session whose secret it has shown.

        Raises:
            Refusal: LEDGER_UNAVAILABLE; UNAVAILABLE, if no more turns come.
        """
        if self._is_over:
            raise _over()
        coming = _Coming(session, shown)
        self._coming.append(coming)
        self.wake()
        await coming.future

    def end(self, session_id: str) -> None:
        """Take a session off the record: nobody is fresh by it any more."""
        self._over.add(session_id)
        self.wake()

    def hold(self, tenant: str, index: int) -> None:
        """Ask the others to close a rule of a tenant."""
        self._asked.setdefault(tenant, []).append(index)
        self.wake()

    def let_go(self, tenant: str, index: int) -> None:
        """Ask no more."""
        self._asked[tenant].remove(index)
        if not self._asked[tenant]:
            del self._asked[tenant]

    def answer(self, tenant: str, answer: Answer) -> None:
        """Tell the others how far a barrier on the rules of a tenant is closed here."""
        self.answers[tenant] = answer
        self.wake()

    def await_(self, tenant: str, named: tuple[tuple[str, str], ...], more: int) -> None:
        """Tell, when we next say something, for whom the next barrier on the rules of a tenant waits here."""
        self.answers[tenant] = replace(self.answers.get(tenant, Answer()), awaited=named, more=more)

    def forget(self, tenant: str) -> None:
        """Answer nothing of a tenant any more: nobody asks."""
        del self.answers[tenant]

    def problem(self) -> str | None:
        """Return what is wrong, if we are not on record where that matters."""
        late = self._place.is_shared and self._monotonic() > max(self._said_at, self._born) + _LATE_SECONDS
        return "the register of brokers cannot be written" if late else None

    async def _turn(self) -> None:
        """Say what is to be said, or else only read what the others say."""
        began = self._monotonic()
        coming, self._coming = self._coming, []
        for session in self._freshness.forget_stale(began):
            self._over.add(session.id)
        database, said = self._place.database, self._said_now(coming)
        if said is None:
            self._glance(await database.run(partial(register.glance, database)), began)
            return
        try:
            reading = await database.run(partial(register.take_turn, database, said))
            if reading is None:  # others hold us for dead, and nobody is fresh by us: begin anew
                self._went_back()
                said = replace(said, **self._beginning())
                reading = await database.run(partial(register.take_turn, database, said))
        except Refusal as refusal:
            _tell(coming, refusal)
            raise
        assert reading is not None  # noqa: S101 (it has just begun)
        self._note(said, reading, began)
        if said.tells:
            self._place.tell()
        for each in coming:
            former = reading.former.get(each.shown)
            if former is not None and former.verifier == each.session.principal:
                each.session.former = former.id
        _tell(coming, None)
        self._hear(reading.brokers, began)

    def _glance(self, brokers: Sequence[StoredBroker], began: float) -> None:
        """Take note of what was read alone."""
        own = sum(sum(broker.verifiers.values()) for broker in brokers if broker.id == self._id)
        if own != len(self._on_record):
            self._said_at = min(self._said_at, began - _BEAT_SECONDS)  # one has ended elsewhere: find out which
            self.wake()
        self._hear(brokers, began)

    def _said_now(self, coming: Sequence[_Coming]) -> Said | None:
        """Return what is to be said; None, if nothing is, and we have lately shown that we live."""
        asked = {tenant: max(indexes) for tenant, indexes in self._asked.items()}
        if not self._peers.have_any():
            asked = {}  # nobody could answer
        telling = (asked, {tenant: answer.closed for tenant, answer in self.answers.items()})
        tells = telling != self._told
        if self._began and not (tells or coming or self._over) and self._monotonic() < self._said_at + _BEAT_SECONDS:
            return None
        new = {each.session.id: _stored(each.session, self._id) for each in coming}
        said = Said(
            broker_id=self._id,
            begins=False,
            name=self._place.name,
            version=self._place.version,
            asked=asked,
            answers={tenant: asdict(answer) for tenant, answer in self.answers.items()},
            new=list(new.values()),
            over=tuple(self._over),
            silent={peer.id: peer.beat for peer in self._peers.silent()},
            secrets=[each.shown for each in coming if each.shown],
            expected=len((self._on_record | new.keys()) - self._over),
            tells=tells,
        )
        self._telling = telling
        return said if self._began else replace(said, **self._beginning())

    def _beginning(self) -> dict[str, Any]:
        """Return what differs in the first turn of a life: all that we have goes on record, but for what comes next."""
        self._id = self._ids()
        left_out = self._over.union(each.session.id for each in self._coming)
        sessions = [session for session in self._freshness.sessions.values() if session.id not in left_out]
        return {
            "broker_id": self._id,
            "begins": True,
            "new": [_stored(session, self._id) for session in sessions],
            "expected": len(sessions),
        }

    def _note(self, said: Said, reading: Reading, began: float) -> None:
        """Take note of what is on record now."""
        if self._place.is_shared:
            self._freshness.recorded(began, self._monotonic())
        self._began, self._said_at, self._told = True, began, self._telling
        self._over.difference_update(said.over)
        if said.begins:
            self._on_record.clear()
        self._on_record.update(session.id for session in said.new)
        self._on_record.difference_update(said.over)
        if reading.own_sessions is not None:
            for session_id in self._on_record.difference(reading.own_sessions):
                if (session := self._freshness.sessions.get(session_id)) is not None:
                    self._ended(session)
            self._on_record.intersection_update(reading.own_sessions)

    def _went_back(self) -> None:
        """Take it for possible that the database lost what was on record last, and with it verifiers of any broker."""
        self._beat = 0
        self._peers.strangers_until = max(self._peers.strangers_until, self._monotonic() + self._peers.patience)

    def _hear(self, brokers: Sequence[StoredBroker], began: float) -> None:
        """Take note of what the others say."""
        now, peers = self._monotonic(), self._peers
        others = [_peer(broker) for broker in brokers if broker.id not in (self._id, register.UNREGISTERED)]
        peers.read(others, began, now)
        beat = next((broker.beat for broker in brokers if broker.id == self._id), 0)
        if beat < self._beat:
            self._went_back()
        self._beat = beat
        if any(broker.id == register.UNREGISTERED for broker in brokers):
            peers.strangers_until = FOREVER
        elif peers.strangers_until == FOREVER:
            peers.strangers_until = now + peers.patience
        if self._asked and not self._told[0] and peers.have_any():
            self.wake()
        self._heard()


def _tell(coming: Sequence[_Coming], refusal: Refusal | None) -> None:
    """Tell verifiers that come whether they are on record."""
    for each in coming:
        if each.future.done():
            continue
        if refusal is None:
            each.future.set_result(None)
        else:
            each.future.set_exception(refusal)


def _over() -> Refusal:
    return Refusal(Reason.UNAVAILABLE, "the broker is shutting down", Hints(next="watch again"))


def _stored(session: Session, broker_id: str) -> StoredSession:
    return StoredSession(session.id, broker_id, session.secret_hash, session.principal, session.tenant)


def _peer(stored: StoredBroker) -> Peer:
    """Read a broker's row; what is not understood says nothing."""
    return Peer(
        id=stored.id,
        name=stored.name,
        version=stored.version,
        beat=stored.beat,
        asked={tenant: index for tenant, index in stored.asked.items() if isinstance(index, int)},
        answers={tenant: _answer(said) for tenant, said in stored.answers.items()},
        verifiers=stored.verifiers,
    )


def _answer(said: object) -> Answer:
    if not isinstance(said, dict):
        return Answer()
    try:
        awaited = tuple((str(tenant), str(name)) for tenant, name in said["awaited"])
        numbers = {name: int(said[name]) for name in ("closed", "confirmed", "stale", "more")}
    except (KeyError, TypeError, ValueError):
        return Answer()
    return Answer(**numbers, awaited=awaited)
