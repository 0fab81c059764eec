"""What is sent to the verifiers that watch: each has a queue, and whoever lets it fill up is cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from broker.model.selector import RevocationRule
from broker.revocation.barrier import Session

_MOST_QUEUED = 10_000
_CHUNK = 1_000
_ANSWER_SECONDS = 0.5  # until a confirmation is answered, if there is no news


@dataclass(frozen=True, slots=True)
class Applied:
    """A verifier's word that it is at an index, and its own number for it."""

    number: int
    index: int


@dataclass(frozen=True, slots=True)
class Confirmed:
    """For how long a confirmation, by its number, keeps its verifier fresh."""

    number: int
    freshness: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One message to a verifier; the fields are those of `RevocationUpdate`."""

    session_id: str = ""
    secret: str = ""
    rules: Sequence[RevocationRule]
    index: int
    snapshot: bool = False
    confirm: bool = False
    keys_changed: bool = False
    more: bool = False
    tenant: str
    checkpoint: str = ""
    confirmed: Confirmed | None = None


@dataclass(slots=True, eq=False)
class Listener:
    """A verifier that watches, what waits to be sent to it, and the answer that goes with what comes next."""

    session: Session
    queue: asyncio.Queue[Update]
    answer: Confirmed | None = None

    def send(self, update: Update) -> None:
        """Queue a message, unless it is let go. Whoever reads too slowly is: it goes stale, and watches again."""
        if not self.session.connected:
            return
        try:
            self.queue.put_nowait(update)
        except asyncio.QueueFull:
            self.session.connected = False

    async def next(self, seconds: float) -> Update | None:
        """Return the next message, waiting for so long; None if there is none.

        One may come just when the wait is over: a heartbeat before it would tell of a rule that was not sent.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):  # `wait_for` would make a task of each message to each verifier
                return await self.queue.get()
        return None if self.queue.empty() else self.queue.get_nowait()


class Publisher:
    """All verifiers that watch. `head` tells the index of the newest rule, and the checkpoint of what holds it."""

    def __init__(self, head: Callable[[], tuple[int, str]]) -> None:
        """Publish to nobody yet."""
        self._head = head
        self._listeners: dict[str, Listener] = {}
        self._answering: asyncio.TimerHandle | None = None

    def add(self, session: Session) -> Listener:
        """Queue for a verifier from now on."""
        listener = Listener(session, asyncio.Queue(_MOST_QUEUED))
        self._listeners[session.id] = listener
        return listener

    def remove(self, listener: Listener) -> None:
        """Queue for a verifier no more."""
        del self._listeners[listener.session.id]

    def publish(self, rules: Sequence[RevocationRule], asked: Collection[str] = ()) -> list[str]:
        """Send each verifier those of the new rules that concern it; return who was asked with it.

        Whoever is sent the same is sent one and the same update, so that it need be written only once.
        """
        confirming, same = [], dict[tuple[str, bool], Update]()
        for listener in self._listeners.values():
            session, confirms = listener.session, listener.session.id in asked
            mine = [rule for rule in rules if session.serves(rule.selector.tenant)]
            if mine:
                update = None if listener.answer else same.get((session.tenant, confirms))
                update = update or self.news(listener, rules=mine, confirm=confirms)
                if not update.confirmed:
                    same[session.tenant, confirms] = update
                listener.send(update)
                confirming += [session.id] * confirms
        return confirming

    def ask(self, sessions: Iterable[str]) -> None:
        """Ask verifiers to confirm at once, by the ids of their sessions."""
        for session_id in sessions:
            if (listener := self._listeners.get(session_id)) is not None:
                self._send(listener, confirm=True)

    def answer(self, session: Session, confirmed: Confirmed) -> None:
        """Answer a verifier's confirmation, behind what it was sent before: with the next news, or a moment later.

        So answers do not hold up the news to others, nor their confirmations, for which a barrier may wait.
        """
        if (listener := self._listeners.get(session.id)) is not None:
            listener.answer = confirmed
            if self._answering is None:
                self._answering = asyncio.get_running_loop().call_later(_ANSWER_SECONDS, self._answer_all)

    def _answer_all(self) -> None:
        self._answering = None
        for listener in self._listeners.values():
            if listener.answer is not None:
                self._send(listener)

    def ask_all(self) -> None:
        """Ask every verifier to confirm at once."""
        self.ask(self._listeners)

    def keys_changed(self) -> None:
        """Tell every verifier to fetch the key set."""
        for listener in self._listeners.values():
            self._send(listener, keys_changed=True)

    def end(self, whose: Callable[[str], bool]) -> None:
        """Let the verifiers of some tenants go."""
        for listener in self._listeners.values():
            if whose(listener.session.tenant):
                self._end(listener)

    def let_go(self, session: Session) -> None:
        """Let one verifier go."""
        if (listener := self._listeners.get(session.id)) is not None:
            self._end(listener)
        session.connected = False

    def news(
        self,
        listener: Listener,
        *,
        rules: Sequence[RevocationRule] = (),
        confirm: bool = False,
        keys_changed: bool = False,
    ) -> Update:
        """Return a message with what is new for a verifier; without anything, a heartbeat."""
        index, checkpoint = self._head()
        confirmed, listener.answer = listener.answer, None
        return Update(
            rules=rules,
            index=index,
            confirm=confirm,
            keys_changed=keys_changed,
            tenant=listener.session.tenant,
            checkpoint="" if rules else checkpoint,
            confirmed=confirmed,
        )

    def _end(self, listener: Listener) -> None:
        """End a verifier's wait, and answer nothing that would keep it fresh."""
        listener.answer = None
        self._send(listener)
        listener.session.connected = False

    def _send(self, listener: Listener, *, confirm: bool = False, keys_changed: bool = False) -> None:
        listener.send(self.news(listener, confirm=confirm, keys_changed=keys_changed))


def first_updates(
    session: Session, rules: Sequence[RevocationRule], index: int, checkpoint: str, *, snapshot: bool, secret: str = ""
) -> Iterable[Update]:
    """Return what brings a verifier to an index, in pieces that end: a snapshot, or what it has missed."""
    chunks = [rules[start : start + _CHUNK] for start in range(0, len(rules), _CHUNK)] or [()]
    for number, chunk in enumerate(chunks, 1):
        yield Update(
            session_id=session.id,
            secret=secret if number == 1 else "",
            rules=chunk,
            index=index,
            snapshot=snapshot and number == 1,
            keys_changed=number == 1,
            confirm=number == len(chunks),  # the verifier's last session ends with that
            more=number < len(chunks),
            tenant=session.tenant,
            checkpoint=checkpoint,
        )
