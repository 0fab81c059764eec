"""SQL about the register: the brokers on a database, and the verifiers that each may keep fresh.

Everything of one turn is one transaction: what a broker says of itself, and what it reads of all.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, func, insert, select, text, update

from broker.model.principal import ANY_TENANT
from broker.store import notices
from broker.store.database import UNAVAILABLE, Database
from broker.store.failures import Undecided, unavailable
from broker.store.schema import brokers, verifier_sessions

UNREGISTERED = "unregistered"
"""The id of the row that stands for brokers of a version which registers nowhere."""
STRANGERS = "strangers"
"""The id of the row that stands for brokers of whom nothing is on record, and which are dead."""

_BEAT = (
    update(brokers)
    .where(brokers.c.id == bindparam("of"))
    .values(beat=brokers.c.beat + 1, asked=bindparam("new_asked"), answers=bindparam("new_answers"))
)
_STRANGERS = text(
    "INSERT INTO brokers (id, name, version, beat, asked, answers) VALUES (:id, '', '', 0, '{}', '{}')"
    " ON CONFLICT (id) DO UPDATE SET beat = brokers.beat + 1"
)
_NUMBERS = select(verifier_sessions.c.broker, verifier_sessions.c.tenant, func.count()).group_by(
    verifier_sessions.c.broker, verifier_sessions.c.tenant
)
_IDS_PER_QUERY = 1_000


class StoredSession(NamedTuple):
    """A verifier on record; the members are the columns."""

    id: str
    broker: str
    secret_hash: bytes
    verifier: str
    tenant: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a broker says in a turn: in the first of its life where it is, and always what it asks and answers.

    `new` are verifiers to put on record, `over` the ids of sessions, its own and others', by which nobody is fresh any
    more. `silent`: brokers of whom it knows that they keep nobody fresh, by the beat it has seen. `secrets`: hashes of
    what verifiers that come have shown. `expected`: how many of its own should then be on record. `tells`: whom it
    concerns should read at once.
    """

    broker_id: str
    begins: bool
    name: str
    version: str
    asked: Mapping[str, object]
    answers: Mapping[str, object]
    new: Collection[StoredSession]
    over: Collection[str]
    silent: Mapping[str, int]
    secrets: Collection[bytes]
    expected: int
    tells: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBroker:
    """A broker's row, and how many verifiers it has on record, by tenant."""

    id: str
    name: str
    version: str
    beat: int
    asked: Mapping[str, object]
    answers: Mapping[str, object]
    verifiers: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a broker reads in a turn: all brokers, and the sessions of the secrets that it has asked for.

    `own_sessions`: the ids of its own, if they are not as many as expected.
    """

    brokers: Sequence[StoredBroker]
    own_sessions: Collection[str] | None
    former: Mapping[bytes, StoredSession]


def take_turn(database: Database, said: Said) -> Reading | None:
    """Put on record what a broker says of itself, and read what all say; None, if it is not on record any more.

    Raises:
        Refusal: LEDGER_UNAVAILABLE. It may have been put on record nevertheless.
    """
    try:
        with database.transaction() as connection:
            if said.begins:
                add(connection, said.broker_id, said.name, said.version)
            if not beat(connection, said.broker_id, said.asked, said.answers):
                return None
            enter(connection, said.new)
            end(connection, said.over)
            for broker_id, seen_beat in said.silent.items():
                bury(connection, broker_id, seen_beat)
            if said.tells:
                notices.tell(connection)
            return _read_in_turn(connection, said)
    except (*UNAVAILABLE, Undecided) as error:
        raise unavailable("the register of brokers cannot be written") from error


def _read_in_turn(connection: Connection, said: Said) -> Reading:
    all_brokers = read(connection)
    own = sum(sum(broker.verifiers.values()) for broker in all_brokers if broker.id == said.broker_id)
    return Reading(
        brokers=all_brokers,
        own_sessions=None if own == said.expected else sessions_of(connection, said.broker_id),
        former=sessions_by_secret(connection, said.secrets),
    )


def add_strangers(connection: Connection) -> None:
    """Put on record that there may be verifiers of whom nothing is known: as of a broker that has just died."""
    connection.execute(_STRANGERS, {"id": STRANGERS})
    end(connection, [STRANGERS])
    enter(connection, [StoredSession(STRANGERS, STRANGERS, b"", "", ANY_TENANT)])


def forget_unregistered(database: Database) -> bool:
    """Take note that no broker runs any more of a version that registers nowhere; report whether one might have."""
    if not database.is_remote:
        return False  # one broker writes to a file, and none of another version beside us
    with database.transaction() as connection:
        return connection.execute(delete(brokers).where(brokers.c.id == UNREGISTERED)).rowcount == 1


def glance(database: Database) -> Sequence[StoredBroker]:
    """Read what all brokers say, saying nothing.

    Raises:
        Refusal: LEDGER_UNAVAILABLE.
    """
    return database.read_now(read)


def add(connection: Connection, broker_id: str, name: str, version: str) -> None:
    """Insert the row of a broker that begins."""
    values = {"id": broker_id, "name": name, "version": version, "beat": 0, "asked": "{}", "answers": "{}"}
    connection.execute(insert(brokers), values)


def beat(connection: Connection, broker_id: str, asked: Mapping[str, object], answers: Mapping[str, object]) -> bool:
    """Say that a broker lives, what it asks and what it answers; report whether it is still on record."""
    values = {"of": broker_id, "new_asked": json.dumps(asked), "new_answers": json.dumps(answers)}
    return connection.execute(_BEAT, values).rowcount == 1


def read(connection: Connection) -> Sequence[StoredBroker]:
    """List all brokers on record. A row that is none of a broker's is one of whom nothing is known."""
    verifiers: dict[str, dict[str, int]] = {}
    for broker_id, tenant, number in connection.execute(_NUMBERS):
        verifiers.setdefault(broker_id, {})[tenant] = number
    unknown = {ANY_TENANT: 1}
    return [
        StoredBroker(
            id=row.id,
            name=row.name,
            version=row.version,
            beat=row.beat,
            asked=_document(row.asked),
            answers=_document(row.answers),
            verifiers=unknown if row.id == UNREGISTERED else verifiers.get(row.id, {}),
        )
        for row in connection.execute(select(brokers))
    ]


def enter(connection: Connection, new: Collection[StoredSession]) -> None:
    """Put verifiers on record."""
    if new:
        connection.execute(insert(verifier_sessions), [session._asdict() for session in new])


def end(connection: Connection, session_ids: Collection[str]) -> None:
    """Take verifiers off the record: nobody is fresh by these sessions any more."""
    ids = list(session_ids)
    for start in range(0, len(ids), _IDS_PER_QUERY):
        chunk = ids[start : start + _IDS_PER_QUERY]
        connection.execute(delete(verifier_sessions).where(verifier_sessions.c.id.in_(chunk)))


def bury(connection: Connection, broker_id: str, seen_beat: int) -> bool:
    """Take a broker off the record, and its verifiers, if it has not written since; report whether it is gone."""
    row = (brokers.c.id == broker_id) & (brokers.c.beat == seen_beat)
    if connection.execute(delete(brokers).where(row)).rowcount != 1:
        return False
    connection.execute(delete(verifier_sessions).where(verifier_sessions.c.broker == broker_id))
    return True


def sessions_by_secret(connection: Connection, hashes: Collection[bytes]) -> Mapping[bytes, StoredSession]:
    """Find the sessions whose secrets have these hashes, by hash."""
    if not hashes:
        return {}
    columns = [verifier_sessions.c[name] for name in StoredSession._fields]
    rows = connection.execute(select(*columns).where(verifier_sessions.c.secret_hash.in_(list(hashes))))
    return {row.secret_hash: StoredSession(*row) for row in rows}


def sessions_of(connection: Connection, broker_id: str) -> set[str]:
    """List the ids of a broker's sessions on record."""
    query = select(verifier_sessions.c.id).where(verifier_sessions.c.broker == broker_id)
    return set(connection.execute(query).scalars())


def _document(text: str) -> Mapping[str, object]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
