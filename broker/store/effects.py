"""SQL about effects outside the database: asked for in the transaction that wants them, done by a job after it.

A row is *due* from `due_at` on. Whoever begins to do it *tries*: one more try is counted, and the row is due again
later, so that it is not lost with whoever tried. In the end it is *done*, or *given up*. Nothing rests on these rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, Update, func, or_, select, text, update

from broker.model.clock import from_micros, to_micros
from broker.model.entry import Json
from broker.store.aggregate import Aggregate, AtHead
from broker.store.rows import delete_some
from broker.store.schema import effects

_ASK = text(
    """
    INSERT INTO effects (id, kind, payload, due_at, tried) VALUES (:id, :kind, :payload, :due_at, 0)
    ON CONFLICT (id) DO UPDATE SET
        payload = excluded.payload,
        due_at = CASE WHEN effects.done_at IS NULL AND effects.given_up_at IS NULL
            THEN effects.due_at ELSE excluded.due_at END,
        tried = CASE WHEN effects.done_at IS NULL AND effects.given_up_at IS NULL THEN effects.tried ELSE 0 END,
        done_at = NULL,
        given_up_at = NULL
    RETURNING due_at
    """
)
# As the partial index says it, word for word: SQLite uses it for nothing else.
_PENDING = text("done_at IS NULL AND given_up_at IS NULL")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideEffect:
    """Something to do outside the database, as often as it takes: doing it twice must come to the same.

    `kind` says who can do it, `payload` what it is. `tried`: how often somebody has begun to do it, this time included.
    """

    id: str
    kind: str
    payload: Mapping[str, Json]
    due_at: datetime
    tried: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """An effect that has failed as often as `tried` says, and why the last time. `given_up`: nobody tries any more."""

    id: str
    tried: int
    problem: str
    given_up: bool


def ask(connection: Connection, effect: OutsideEffect) -> datetime:
    """Insert an effect; return when it is due.

    One that is asked for again before it is done gets the new payload and keeps its turn; who is at it already, by the
    payload before, does not end it.
    """
    values = {
        "id": effect.id,
        "kind": effect.kind,
        "payload": _dump(effect.payload),
        "due_at": to_micros(effect.due_at),
    }
    return from_micros(connection.execute(_ASK, values).scalar_one())


def claim(connection: Connection, kind: str, at: datetime, pause: Callable[[int], timedelta]) -> OutsideEffect | None:
    """Take the effect of a kind that has been due for longest; None, if none is.

    `pause` tells after how long the next try may begin, by the number of this one. Two brokers cannot take the same:
    they hold the ledger's head. Who dies at it holds up nobody.
    """
    due = select(effects).where(_PENDING, effects.c.kind == kind, effects.c.due_at <= to_micros(at))
    row = connection.execute(due.order_by(effects.c.due_at).limit(1)).one_or_none()
    if row is None:
        return None
    claimed = OutsideEffect(
        id=row.id, kind=row.kind, payload=json.loads(row.payload), due_at=at + pause(row.tried + 1), tried=row.tried + 1
    )
    values = {"due_at": to_micros(claimed.due_at), "tried": claimed.tried}
    connection.execute(update(effects).where(effects.c.id == row.id).values(values))
    return claimed


def done(connection: Connection, effect: OutsideEffect, at: datetime) -> bool:
    """Note that an effect is done; report whether it is: it may have been asked for anew meanwhile."""
    as_asked = effects.c.payload == _dump(effect.payload)
    values = {"done_at": to_micros(at), "given_up_at": None, "last_problem": None}
    return connection.execute(_update(effect, as_asked, values)).rowcount == 1


def failed(connection: Connection, effect: OutsideEffect, problem: str) -> None:
    """Note why a try has failed, if there was no later one."""
    connection.execute(_update(effect, effects.c.tried == effect.tried, {"last_problem": problem}))


def give_up(connection: Connection, effect: OutsideEffect, problem: str, at: datetime) -> bool:
    """Try an effect no more, if there was no later try; report whether that is so."""
    values = {"last_problem": problem, "given_up_at": to_micros(at)}
    return connection.execute(_update(effect, effects.c.tried == effect.tried, values)).rowcount == 1


def next_due(connection: Connection, kind: str) -> datetime | None:
    """Report when the next effect of a kind is due; None, if there is none."""
    micros = connection.execute(select(func.min(effects.c.due_at)).where(_PENDING, effects.c.kind == kind)).scalar_one()
    return None if micros is None else from_micros(micros)


def troubles(connection: Connection, least_tried: int, limit: int) -> Sequence[Trouble]:
    """List effects that were given up, or have failed at least so often."""
    failing = effects.c.last_problem.is_not(None) & (effects.c.tried >= least_tried)
    query = select(effects).where(or_(effects.c.given_up_at.is_not(None), failing)).order_by(effects.c.id)
    return [
        Trouble(id=row.id, tried=row.tried, problem=row.last_problem or "", given_up=row.given_up_at is not None)
        for row in connection.execute(query.limit(limit))
    ]


def forget(connection: Connection, before: datetime, limit: int) -> int:
    """Delete effects that were done or given up before an instant, at most so many; report how many."""
    micros = to_micros(before)
    ended = or_(effects.c.done_at < micros, effects.c.given_up_at < micros)
    return delete_some(connection, effects, ended, limit)


def _update(effect: OutsideEffect, condition: ColumnElement[bool], values: Mapping[str, object]) -> Update:
    return update(effects).where(effects.c.id == effect.id, _PENDING, condition).values(values)


def _dump(payload: Mapping[str, Json]) -> str:
    return json.dumps(payload, sort_keys=True, separators=(",", ":"))


class Effects(Aggregate):
    """The effects that a transaction asks for."""

    def __init__(self, head: AtHead, kept: Mapping[str, datetime]) -> None:
        """Begin with when what was asked for before is due."""
        self._head = head
        self._due = {effect_id: due_at for effect_id, due_at in kept.items() if head.at < due_at}
        self._new: list[OutsideEffect] = []

    def is_coming(self, effect_id: str) -> bool:
        """Report whether an effect is asked for already, and not due before this transaction is over."""
        return effect_id in self._due

    def add(self, effect: OutsideEffect) -> None:
        """Ask for an effect."""
        self._new.append(effect)

    def write(self) -> None:
        """Insert what is new."""
        for effect in self._new:
            self._due[effect.id] = ask(self._head.connection, effect)

    def kept(self) -> Mapping[str, datetime]:
        """Return when what was asked for is due, as far as that is to come."""
        return self._due
