"""What is between brokers, in a model: clocks, the loops that they run on, one ledger and one register.

Nothing happens by itself: what a broker asks of the database waits until the model lets it begin, be done, and be heard
of, or fail before or after it was done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from broker.model.errors import Reason, Refusal
from broker.model.principal import ANY_TENANT
from broker.model.selector import Cause, RevocationRule, Selector, Target
from broker.store import register
from broker.store.register import Reading, Said, StoredBroker, StoredSession
from tests.support.world import START


@dataclass
class Clock:
    """Seconds since some start, which pass a little faster than they do in truth, and while its machine sleeps."""

    now: Callable[[], float]
    rate: float
    offset: float

    def __call__(self) -> float:
        return self.offset + self.rate * self.now()


class Loop(asyncio.BaseEventLoop):
    """Runs when told, for as long as there is something to do at the time of its clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._selector, self._clock = self, clock

    def time(self) -> float:
        return self._clock()

    def run(self) -> None:
        while self._ready or (self._scheduled and self._scheduled[0].when() <= self.time()):  # type: ignore[attr-defined]
            self.stop()
            self.run_forever()

    def select(self, timeout: float | None) -> list[object]:
        return []

    def _process_events(self, event_list: object) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


@dataclass(eq=False)
class Request:
    """What a broker has asked of the database, and where it is on its way there and back."""

    step: Callable[..., Any]
    future: asyncio.Future[Any]
    visible: Mapping[tuple[str, str], StoredSession] | None = None  # what its first statement saw
    done: bool = False
    outcome: Any = None

    @property
    def is_turn(self) -> bool:
        return isinstance(self.step, partial) and self.step.func is register.take_turn

    @property
    def is_of_register(self) -> bool:
        return isinstance(self.step, partial)

    def is_heard(self) -> None:
        if not self.is_of_register:
            self.step(self.outcome)
        self.future.set_result(self.outcome)

    def fails(self) -> None:
        self.future.set_exception(Refusal(Reason.LEDGER_UNAVAILABLE, "cut off"))


class Line:
    """A broker's connections: what a `Database` is to the feed."""

    is_shared = is_remote = False  # no notices are heard but those that the model lets through

    def __init__(self, loop: Loop) -> None:
        self._loop, self.cut = loop, False
        self.requests: list[Request] = []

    def apart(self, name: str) -> Line:
        return self

    def close(self) -> None:
        pass

    async def read(self, query: Callable[..., Any]) -> object:
        return await self.run(query)

    async def run(self, step: Callable[..., Any]) -> object:
        request = Request(step, self._loop.create_future())
        self.requests.append(request)
        try:
            return await request.future
        finally:
            if request in self.requests:
                self.requests.remove(request)


class Follower:
    """What a broker has read of the ledger; it is its own `InForce`."""

    note, announced = "", ()

    def __init__(self, store: Store) -> None:
        self._store, self._at = store, 0

    @property
    def in_force(self) -> Follower:
        return self

    @property
    def last_rule(self) -> int:
        return self._at - 1

    def rules(self, after: int = -1) -> list[RevocationRule]:
        return self._store.ledger[after + 1 : self._at]

    def relevant(self, tenant: str) -> list[RevocationRule]:
        mine = (tenant, ANY_TENANT)
        return [rule for rule in self.rules() if tenant == ANY_TENANT or rule.selector.tenant in mine]

    def catch_up(self, length: int) -> None:
        self._at = max(self._at, length)

    def shown(self, note: str) -> None:
        pass

    def refuse_behind(self) -> None:
        pass


@dataclass
class Row:
    name: str
    beat: int = 0
    asked: Mapping[str, object] = field(default_factory=dict)
    answers: Mapping[str, object] = field(default_factory=dict)


@dataclass
class Store:
    """The ledger, of rules alone, and the register. A transaction reads what is committed at each of its statements."""

    ledger: list[RevocationRule] = field(default_factory=list)
    rows: dict[str, Row] = field(default_factory=dict)
    sessions: dict[tuple[str, str], StoredSession] = field(default_factory=dict)  # by broker and id

    def record(self, tenant: str) -> int:
        index, selector = len(self.ledger), Selector(tenant, Target.ALL)
        rule = RevocationRule(
            index=index, selector=selector, cause=Cause.OPERATOR, recorded_at=START, relevant_until=START
        )
        self.ledger.append(rule)
        return index

    def begin(self, request: Request) -> None:
        request.visible = dict(self.sessions)

    def do(self, request: Request) -> None:
        """Do what was asked; what is written can be seen from now on."""
        visible = request.visible or self.sessions
        request.done = True
        if not request.is_of_register:
            request.outcome = len(self.ledger)
        elif request.is_turn:
            request.outcome = self._turn(request.step.args[1], visible)  # type: ignore[attr-defined]
        else:
            request.outcome = self._brokers(visible)

    def _turn(self, said: Said, visible: Mapping[tuple[str, str], StoredSession]) -> Reading | None:
        if said.begins:
            self.rows[said.broker_id] = Row(said.name)
        row = self.rows.get(said.broker_id)
        if row is None:
            return None
        row.beat, row.asked, row.answers = row.beat + 1, said.asked, said.answers
        for session in said.new:
            assert (session.broker, session.id) not in self.sessions
            self.sessions[session.broker, session.id] = session
        self.sessions = {key: session for key, session in self.sessions.items() if session.id not in said.over}
        for broker_id, beat in said.silent.items():
            self._bury(broker_id, beat)
        own = {key: session for key, session in self.sessions.items() if session.broker == said.broker_id}
        others = {key: each for key, each in visible.items() if each.broker != said.broker_id}
        seen = own | {key: each for key, each in others.items() if each.id not in said.over}
        return Reading(
            brokers=self._brokers(seen),
            own_sessions=None if len(own) == said.expected else {each.id for each in own.values()},
            former={each.secret_hash: each for each in self.sessions.values() if each.secret_hash in said.secrets},
        )

    def _bury(self, broker_id: str, beat: int) -> None:
        if broker_id in self.rows and self.rows[broker_id].beat == beat:
            del self.rows[broker_id]
            self.sessions = {key: each for key, each in self.sessions.items() if each.broker != broker_id}

    def _brokers(self, sessions: Mapping[tuple[str, str], StoredSession]) -> Sequence[StoredBroker]:
        return [
            StoredBroker(
                id=broker_id,
                name=row.name,
                version="1",
                beat=row.beat,
                asked=row.asked,
                answers=row.answers,
                verifiers=_numbers(each.tenant for each in sessions.values() if each.broker == broker_id),
            )
            for broker_id, row in self.rows.items()
        ]


def _numbers(tenants: Any) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for tenant in tenants:
        numbers[tenant] = numbers.get(tenant, 0) + 1
    return numbers
