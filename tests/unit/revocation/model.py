"""Law 3 in a model: real feeds of several brokers, and verifiers, to which anything may happen in any order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count

from broker.model.errors import Refusal
from broker.revocation.barrier import NEVER
from broker.revocation.closing import Closing, State
from broker.revocation.feed import FRESHNESS, Feed
from broker.revocation.membership import Place
from broker.revocation.publishing import Update
from tests.support.feed import VERIFIER
from tests.unit.revocation.between import Clock, Follower, Line, Loop, Request, Store

WINDOW = FRESHNESS.total_seconds()
PATIENCE = WINDOW * 1.01


@dataclass(eq=False)
class Waiting:
    """A barrier on which somebody waits at a broker."""

    index: int
    tenant: str
    began: float
    task: asyncio.Task[Closing]


class Life:
    """A broker, from its start until it is killed. It does nothing while it is paused, and its clock runs on."""

    def __init__(self, store: Store, clock: Clock, ids: Callable[[], str], *, is_complete: bool) -> None:
        self.clock, self.loop, self.paused = clock, Loop(clock), False
        self.line, self.registry = Line(self.loop), Line(self.loop)
        place = Place(self.registry, "broker", "1", is_shared=True, is_complete=is_complete)  # type: ignore[arg-type]
        follower = Follower(store)
        secrets = lambda: ids().encode()  # noqa: E731
        self.feed = Feed(self.line, follower, place, clock, ids, secrets)  # type: ignore[arg-type]
        for part in self.feed.parts().values():
            self.loop.create_task(part)
        self.barriers: list[Waiting] = []
        self.loop.run()

    @property
    def requests(self) -> list[Request]:
        return [each for each in self.line.requests + self.registry.requests if not each.future.done()]

    @property
    def served(self) -> list[Request]:
        """The requests that nothing keeps from being served."""
        lines = [] if self.paused else [line for line in (self.line, self.registry) if not line.cut]
        return [each for line in lines for each in line.requests if not each.future.done()]

    @property
    def newest(self) -> int:
        return self.feed._newest

    def run(self) -> None:
        if not self.paused:
            self.loop.run()

    def wake(self) -> None:
        """Bring it word that there is something new."""
        self.feed.told()

    def begin_barrier(self, index: int, tenant: str) -> None:
        task = self.loop.create_task(self.feed.barrier(index, tenant))
        self.barriers.append(Waiting(index, tenant, self.clock(), task))

    def die(self) -> list[Request]:
        """End; return what it was asking of the database."""
        asking = self.requests
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run()
        self.loop.close()
        return asking


@dataclass(eq=False)
class Stream:
    """A call to watch, and what has come of it, in order, and is on its way."""

    life: Life
    called: float
    inbox: list[Update] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    def arrive(self, tenant: str, resume_index: int | None, secret: str) -> None:
        self.task = self.life.loop.create_task(self._flow(tenant, resume_index, secret))

    def is_over(self) -> bool:
        return self.life.loop.is_closed() or (self.task is not None and self.task.done())

    def break_off(self) -> None:
        """The broker notices that the call is over."""
        if self.task is not None and not self.life.loop.is_closed():
            self.task.cancel()

    async def _flow(self, tenant: str, resume_index: int | None, secret: str) -> None:
        try:
            async for update in self.life.feed.watch(replace(VERIFIER, tenant=tenant), resume_index, "", secret):
                self.inbox.append(update)
        except Refusal:
            pass


@dataclass(eq=False)
class Verifier:
    """A tool server: what it has applied in truth, and until when, on its own clock, it believes that to be enough."""

    tenant: str
    clock: Clock
    applied: set[int] = field(default_factory=set)
    index: int | None = None
    fresh_until: float = NEVER
    secret: str = ""
    is_deaf: bool = False
    is_mute: bool = False
    stream: Stream | None = None
    session: str = ""
    asking: tuple[Stream, str, int, float] | None = None  # a confirmation, and when it was sent
    answer: tuple[Stream, float, float] | None = None

    def is_fresh(self) -> bool:
        return self.clock() < self.fresh_until

    def call(self, life: Life) -> Stream | None:
        """Watch, at whichever broker; return the call that this ends."""
        before, self.stream = self.stream, Stream(life, self.clock())
        self.session, self.asking, self.answer = "", None, None
        return before

    def restart(self) -> Stream | None:
        """Forget everything."""
        before, self.stream = self.stream, None
        self.applied, self.index, self.fresh_until, self.secret = set(), None, NEVER, ""
        self.session, self.asking, self.answer = "", None, None
        return before

    def hear(self) -> bool:
        """Take the next message, if there is one; report whether it is to be confirmed at once."""
        if self.stream is None or not self.stream.inbox:
            return False
        update = self.stream.inbox.pop(0)
        if update.snapshot:
            self.applied = set()
        self.applied |= {rule.index for rule in update.rules}
        self.index, self.secret = update.index, update.secret or self.secret
        if not self.session:
            self.session = update.session_id
            self.fresh_until = max(self.fresh_until, self.stream.called + WINDOW)
        return update.confirm or not update.rules

    def confirm(self) -> None:
        """Say how far it is; what it had said before is answered to nobody."""
        if self.stream is not None and self.session:
            index = -1 if self.index is None else self.index
            self.asking = (self.stream, self.session, index, self.clock())
            self.answer = None

    def hear_answer(self) -> None:
        if self.answer is not None and self.answer[0] is self.stream:
            _, sent, seconds = self.answer
            self.fresh_until = max(self.fresh_until, sent + seconds)
        self.answer = None


class Model:
    """All that there is, and what must hold of it."""

    def __init__(self, rates: list[float], tenants: list[str], verifier_rates: list[float]) -> None:
        self.now = 1_000.0
        self.store = Store()
        self.committed: list[float] = []  # when each rule was
        self.dead: set[int] = set()  # the rules of which a barrier has said that they are closed
        self.orphans: list[Request] = []  # what killed brokers have sent
        self._ids = count()
        self.clocks = [Clock(self._now, rate, 7_000.0 * number) for number, rate in enumerate(rates)]
        self.lives = [self._life(clock) for clock in self.clocks]
        clocks = [Clock(self._now, rate, 50_000.0) for rate in verifier_rates]
        self.verifiers = [Verifier(tenant, clock) for tenant, clock in zip(tenants, clocks, strict=True)]
        for life in self.lives:
            self.serve(life)

    def _now(self) -> float:
        self.now += 1e-7  # no two looks at a clock find it the same
        return self.now

    def _id(self) -> str:
        return f"{next(self._ids):09}"

    def _life(self, clock: Clock, *, is_complete: bool = True) -> Life:
        return Life(self.store, clock, self._id, is_complete=is_complete)

    def elapse(self, seconds: float) -> None:
        """Let time pass, and look at once at whatever may come of that alone."""
        until = self.now + seconds
        while instants := [instant for instant in self._turning_points() if self.now < instant < until]:
            self.now = min(instants) + 1e-6
            self.run()
        self.now = max(self.now, until)
        self.run()

    def _turning_points(self) -> Iterator[float]:
        yield from (committed + WINDOW for committed in self.committed)
        for life in self.lives:
            for barrier in life.feed._freshness._barriers:
                yield (barrier.next_at() - life.clock.offset) / life.clock.rate
            for waiting in life.barriers:
                yield (waiting.began + life.feed._peers.patience - life.clock.offset) / life.clock.rate

    def run(self) -> None:
        """Let all brokers that are awake do what is to be done now; then hold the laws against what has come of it."""
        for life in self.lives:
            life.run()
            for waiting in list(life.barriers):
                self._look_at(life, waiting)
        self.check()

    def _look_at(self, life: Life, waiting: Waiting) -> None:
        if waiting.task.done():
            life.barriers.remove(waiting)
            assert waiting.task.result().state is State.CLOSED
            self.dead.add(waiting.index)
        elif not life.paused:
            assert life.clock() < waiting.began + PATIENCE + 0.01, "a barrier is over after a window"

    def check(self) -> None:
        """Nobody accepts what is closed, or was revoked a window ago."""
        for verifier in self.verifiers:
            if not verifier.is_fresh():
                continue
            for rule in self.store.ledger:
                concerns = verifier.tenant == "*" or rule.selector.tenant in (verifier.tenant, "*")
                if concerns and rule.index not in verifier.applied:
                    assert rule.index not in self.dead, (rule, verifier)
                    assert self.now < self.committed[rule.index] + WINDOW, (rule, verifier)

    def commit(self, tenant: str) -> int:
        self.committed.append(self.now)
        return self.store.record(tenant)

    def kill(self, number: int) -> None:
        """Kill a broker, and start another in its place."""
        self.orphans += [request for request in self.lives[number].die() if request.is_turn and not request.done]
        self.lives[number] = self._life(self.clocks[number])

    def lose_register(self) -> None:
        """Kill all brokers, and start others that find nothing on record."""
        for number in range(len(self.lives)):
            self.kill(number)
        self.orphans, self.store.rows, self.store.sessions = [], {}, {}
        for number, clock in enumerate(self.clocks):
            self.lives[number].die()
            self.lives[number] = self._life(clock, is_complete=False)

    def close(self) -> None:
        for life in self.lives:
            life.die()

    # Whole exchanges, which take no time.

    def serve(self, life: Life) -> None:
        """Do whatever a broker asks of the database, until it asks no more."""
        life.run()
        while requests := life.served:
            for request in requests:
                if not request.done:
                    self.store.do(request)
                request.is_heard()
            life.run()

    def watch(self, verifier: Verifier, life: Life, *, resumes: bool, shows: bool) -> None:
        self.leave(verifier.call(life))
        self.arrive(verifier, resumes=resumes, shows=shows)
        self.serve(life)
        if not verifier.is_deaf:
            verifier.hear()

    def arrive(self, verifier: Verifier, *, resumes: bool, shows: bool) -> None:
        stream = verifier.stream
        if stream is not None and stream.task is None and not (stream.life.paused or stream.life.loop.is_closed()):
            index, secret = verifier.index if resumes else None, verifier.secret if shows else ""
            stream.arrive(verifier.tenant, index, secret)

    def leave(self, stream: Stream | None) -> None:
        if stream is not None:
            stream.break_off()

    def confirm(self, verifier: Verifier) -> None:
        verifier.confirm()
        self.confirmation_arrives(verifier)
        verifier.hear_answer()

    def confirmation_arrives(self, verifier: Verifier, ahead: int = 0) -> None:
        if verifier.asking is None:
            return
        stream, session, index, sent = verifier.asking
        if stream.life.paused or stream.life.loop.is_closed():
            return
        verifier.asking = None
        try:
            freshness = stream.life.feed.confirm(replace(VERIFIER, tenant=verifier.tenant), session, index + ahead)
        except Refusal:
            return
        verifier.answer = (stream, sent, freshness.total_seconds())
