"""Every failure of the database has one meaning, and is over when its cause is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, create_engine, event, text

from broker.model.entry import Entry, Kind
from broker.model.errors import Reason, Refusal
from broker.model.selector import Cause, RevocationRule, Selector, Target
from broker.store import ledger, migrate, opening, tasks
from broker.store.committer import Committed
from broker.store.database import DatabaseProblem, open_database, plain_problems
from broker.store.failures import Undecided
from broker.store.follower import Follower
from broker.store.marks import Marks
from broker.store.transaction import Change, Transaction
from broker.store.writer import Writer
from tests.support.world import ORIGIN, ManualClock, World, note_signer, opened


async def refused(world: World) -> Refusal:
    with pytest.raises(Refusal) as refused:
        await world.task()
    return refused.value


def test_a_commit_that_may_have_been_done_is_told_to_people_as_any_other_failure() -> None:
    with pytest.raises(DatabaseProblem, match="the database says: the server closed the connection"), plain_problems():
        raise Undecided("the server closed the connection")


async def test_a_ledger_without_a_head_is_unavailable_until_it_is_back(database_url: str) -> None:
    async with opened(database_url) as world:
        await world.task()
        with world.desk.database.transaction() as connection:
            connection.execute(text("CREATE TABLE elsewhere AS SELECT * FROM ledger_head"))
            connection.execute(text("DELETE FROM ledger_head"))
        assert (await refused(world)).reason is Reason.LEDGER_UNAVAILABLE
        with pytest.raises(ledger.LedgerMismatch, match="has no head"):  # over which the feed goes on
            await world.desk.database.read(world.follower.catch_up)
        with world.desk.database.transaction() as connection:
            connection.execute(text("INSERT INTO ledger_head SELECT * FROM elsewhere"))
        await world.desk.database.read(world.follower.catch_up)
        assert (await world.task()).id


async def test_a_table_that_is_away_for_a_while_is_an_unavailable_ledger_for_reads_and_writes(
    database_url: str,
) -> None:
    async with opened(database_url) as world:
        with world.desk.database.transaction() as connection:
            connection.execute(text("ALTER TABLE tasks RENAME TO elsewhere"))
        assert (await refused(world)).reason is Reason.LEDGER_UNAVAILABLE
        with pytest.raises(Refusal) as unread:
            await world.desk.database.read(lambda connection: tasks.fetch(connection, ["t"]))
        assert unread.value.reason is Reason.LEDGER_UNAVAILABLE
        assert "nothing was done" not in unread.value.message
        with world.desk.database.transaction() as connection:
            connection.execute(text("ALTER TABLE elsewhere RENAME TO tasks"))
        await world.task()


async def test_a_database_that_is_no_database_is_an_unavailable_ledger(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "broker.db"
    migrate.upgrade(str(path))
    path.write_bytes(b"this is no database" * 1_000)
    database = open_database(str(path))
    with pytest.raises(Refusal) as unread:
        await database.read(ledger.head)
    assert unread.value.reason is Reason.LEDGER_UNAVAILABLE
    database.close()


@pytest.mark.postgres
async def test_a_database_that_was_read_only_is_written_again_without_a_restart(
    new_postgresql_url: Callable[[], str],
) -> None:
    url = new_postgresql_url()
    name = url.partition("?")[0].rpartition("/")[2]
    migrate.upgrade(url)
    async with opened(url) as world:
        await world.task()
        _sql(url, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        _end_sessions(url)
        for _ in range(3):
            assert (await refused(world)).reason is Reason.LEDGER_UNAVAILABLE
        _sql(
            url,
            "SET default_transaction_read_only = off",
            f'ALTER DATABASE "{name}" RESET default_transaction_read_only',
        )
        await world.task()


async def test_what_the_database_refuses_because_it_is_wrong_is_no_unavailable_ledger(database_url: str) -> None:
    def twice(transaction: Transaction) -> None:
        ledger.start(transaction.connection, "another", "")

    async with opened(database_url) as world:
        with pytest.raises(Exception, match=r"(?i)unique") as failed:
            await world.desk.ledger.write(Change(twice))
        assert not isinstance(failed.value, Refusal)
        await world.task()


async def test_a_writer_that_dies_leaves_nobody_waiting(database_url: str) -> None:
    def broken(_change: Committed) -> None:
        raise ZeroDivisionError("a listener is broken")

    def revoke(transaction: Transaction) -> int:
        index = transaction.record(Entry(kind=Kind.LEASES_REVOKED, at=transaction.at, tenant="acme"))
        transaction.rules.add(
            RevocationRule(
                index=index,
                selector=Selector("acme", Target.ALL),
                cause=Cause.OPERATOR,
                recorded_at=transaction.at,
                relevant_until=transaction.at,
            )
        )
        return index

    def another(transaction: Transaction) -> int:
        return transaction.record(Entry(kind=Kind.POLICY_ACTIVATED, at=transaction.at, tenant=""))

    database = open_database(database_url)
    writer = Writer(database, ORIGIN, note_signer(), ManualClock(), broken)
    writing = writer.start()
    revoking = asyncio.create_task(writer.write(Change(revoke)))
    await asyncio.wait([writing])
    assert isinstance(writing.exception(), ZeroDivisionError)
    assert await revoking == 1, "it is durable"
    with pytest.raises(Refusal) as late:
        await writer.write(Change(another))
    assert late.value.reason is Reason.UNAVAILABLE
    await writer.stop()
    database.close()


@pytest.mark.postgres
async def test_a_broker_starts_while_another_writes_however_slow_its_network(
    new_postgresql_url: Callable[[], str],
) -> None:
    url = new_postgresql_url()
    migrate.upgrade(url)
    signer = note_signer()

    def open_slowly() -> None:
        database = open_database(url)
        _slow_down(database.engine)
        opening.open_ledger(database, ORIGIN, signer, ManualClock(), Follower(signer.vkey), Marks((), signer.vkey))
        database.close()

    async with opened(url, note_key=signer) as world:
        stop = asyncio.Event()

        async def load() -> int:
            written = 0
            while not stop.is_set():
                await world.task()
                written += 1
            return written

        loading = asyncio.create_task(load())
        for _ in range(10):
            await asyncio.to_thread(open_slowly)
        stop.set()
        assert await loading > 10


@pytest.mark.postgres
async def test_brokers_that_start_at_once_on_an_empty_database_begin_one_ledger(
    new_postgresql_url: Callable[[], str],
) -> None:
    url = new_postgresql_url()
    migrate.upgrade(url)
    signer = note_signer()

    def start() -> None:
        database = open_database(url)
        _slow_down(database.engine)
        opening.open_ledger(database, ORIGIN, signer, ManualClock(), Follower(signer.vkey), Marks((), signer.vkey))
        database.close()

    await asyncio.gather(*(asyncio.to_thread(start) for _ in range(4)))
    database = open_database(url)
    assert await database.read(ledger.last_index) == 0
    database.close()


def _slow_down(engine: Engine) -> None:
    """Let every statement take some milliseconds to get there, as over a network."""

    @event.listens_for(engine, "before_cursor_execute")
    def _wait(*_arguments: object) -> None:
        time.sleep(0.005)


def _sql(url: str, *statements: str) -> None:
    """Let an administrator say something."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def _end_sessions(url: str) -> None:
    _sql(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid != pg_backend_pid()",
    )
