"""The register of brokers and verifiers: what a turn puts on record, and what the next one of another broker finds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.store import migrate
from broker.store.beside import open_register
from broker.store.database import Database, open_database
from broker.store.register import Reading, Said, StoredSession, glance, take_turn
from broker.system import boot_id
from tests.support.file_limit import no_file_beyond
from tests.support.world import opened


@pytest.fixture
def register(database_url: str) -> Iterator[Database]:
    database = open_database(database_url)
    register, _ = open_register(database, boot_id())
    yield register
    register.close()
    database.close()


def session(name: str, broker: str, tenant: str = "acme") -> StoredSession:
    return StoredSession(name, broker, name.encode(), "spiffe://example.org/tool", tenant)


def turn(register: Database, broker: str, **said: object) -> Reading | None:
    nothing: dict[str, object] = {
        "begins": False,
        "name": broker,
        "version": "1",
        "asked": {},
        "answers": {},
        "new": (),
    }
    nothing |= {"over": (), "silent": {}, "secrets": (), "expected": 0, "tells": False}
    return take_turn(register, Said(broker_id=broker, **nothing | said))  # type: ignore[arg-type]


def begin(register: Database, broker: str, *sessions: StoredSession) -> Reading:
    reading = turn(register, broker, begins=True, new=sessions, expected=len(sessions))
    assert reading is not None
    return reading


def beats(register: Database) -> dict[str, int]:
    return {broker.id: broker.beat for broker in glance(register)}


def verifiers(register: Database) -> dict[str, dict[str, int]]:
    return {broker.id: dict(broker.verifiers) for broker in glance(register)}


def test_a_turn_shows_that_a_broker_lives_whom_it_has_and_what_it_asks_and_answers(register: Database) -> None:
    begin(register, "a", session("1", "a"), session("2", "a"), session("3", "a", "*"))
    reading = turn(register, "a", asked={"acme": 7}, answers={"*": {"closed": 3}}, expected=3, tells=True)
    assert reading is not None
    (broker,) = reading.brokers
    assert (broker.id, broker.name, broker.version, broker.beat) == ("a", "a", "1", 2)
    assert (broker.asked, broker.answers, broker.verifiers) == ({"acme": 7}, {"*": {"closed": 3}}, {"acme": 2, "*": 1})
    assert reading.own_sessions is None
    assert list(glance(register)) == list(reading.brokers)


def test_a_broker_whose_row_is_old_is_buried_with_its_verifiers_and_finds_that_out(register: Database) -> None:
    begin(register, "a", session("1", "a"))
    begin(register, "b", session("2", "b"))
    assert turn(register, "b", silent={"a": 1}, expected=1) is not None
    assert verifiers(register) == {"b": {"acme": 1}}
    reading = turn(register, "b", secrets=[b"1"], expected=1)
    assert reading is not None
    assert not reading.former
    assert turn(register, "a", new=[session("3", "a")], expected=2) is None
    assert verifiers(register) == {"b": {"acme": 1}}, "what it said is not on record"
    begin(register, "c", session("1", "c"))
    assert verifiers(register) == {"b": {"acme": 1}, "c": {"acme": 1}}


def test_a_broker_that_has_written_since_it_was_seen_is_not_buried(register: Database) -> None:
    begin(register, "a", session("1", "a"))
    begin(register, "b")
    turn(register, "a", expected=1)
    turn(register, "b", silent={"a": 1})
    assert beats(register) == {"a": 2, "b": 2}
    assert verifiers(register)["a"] == {"acme": 1}


def test_a_session_is_found_by_its_secret_and_ended_by_whichever_broker_and_its_own_is_told(register: Database) -> None:
    begin(register, "a", session("1", "a"), session("2", "a"))
    begin(register, "b")
    reading = turn(register, "b", new=[session("3", "b")], secrets=[b"1", b"nobody's"], expected=1)
    assert reading is not None
    assert dict(reading.former) == {b"1": session("1", "a")}
    assert verifiers(register) == {"a": {"acme": 2}, "b": {"acme": 1}}, "it has not ended before anybody says so"
    assert turn(register, "b", over=["1"], expected=1) is not None
    told = turn(register, "a", expected=2)
    assert told is not None
    assert told.own_sessions == {"2"}


def test_what_a_life_has_left_behind_keeps_no_other_from_beginning(register: Database) -> None:
    begin(register, "a", session("1", "a"))  # it was never heard that this was done
    begin(register, "b", session("1", "b"))
    assert verifiers(register) == {"a": {"acme": 1}, "b": {"acme": 1}}
    assert turn(register, "b", over=["1"]) is not None
    assert verifiers(register) == {"a": {}, "b": {}}


async def test_a_file_that_is_made_over_a_ledger_stands_for_verifiers_of_whom_nothing_is_known(tmp_path: Path) -> None:
    """For whoever opens it, too, while they may be fresh: another worker, or a broker that starts again at once."""
    url = f"sqlite:///{tmp_path}/broker.db"
    migrate.upgrade(url)
    async with opened(url) as world:
        for is_complete in (False, True):
            register, told = open_register(world.desk.database, boot_id())
            assert told is is_complete
            assert verifiers(register) == {"strangers": {"*": 1}}
            register.close()


def test_on_a_full_disk_verifiers_come_and_go_as_ever(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'broker.db'}"
    migrate.upgrade(url)
    database = open_database(url)
    register, _ = open_register(database, boot_id())
    begin(register, "a", session("0", "a"))
    with no_file_beyond(max(file.stat().st_size for file in tmp_path.glob("*.live*"))):
        for number in range(1, 500):
            assert turn(register, "a", new=[session(str(number), "a")], over=[str(number - 1)], expected=1) is not None
    assert verifiers(register) == {"a": {"acme": 1}}
    register.close()
    database.close()
