"""The faults, each with what it is to be put on and taken away, and what a broker still does while it lasts."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto

from sqlalchemy import create_engine, make_url, text

from broker.model.errors import Reason
from tests.faults.scene import Scene

_HOUR = timedelta(hours=1)
_BY_THE_CLOCK = frozenset({Reason.TOKEN_INVALID, Reason.TOKEN_EXPIRED})


class On(Enum):
    """What a broker keeps its ledger on."""

    FILE = auto()
    SMALL_DISK = auto()
    SERVER = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that happens to a broker, for the time of a block.

    serves: whether it serves meanwhile, and says so; None, if that comes and goes. seconds: how long it lasts, once it
    has been noticed. quick: `make test` plays it, too. takes_away: what ends credentials is recorded all the same.
    strange: why else than as revoked a verifier may then refuse a token.
    """

    name: str
    on: On
    inflicted: Callable[[Scene], AbstractAsyncContextManager[None]]
    serves: bool | None = False
    seconds: float = 15.0
    quick: bool = False
    takes_away: bool = False
    strange: frozenset[Reason] = frozenset()


@asynccontextmanager
async def _cut(scene: Scene) -> AsyncIterator[None]:
    scene.wire.cut()
    yield
    scene.wire.heal()


@asynccontextmanager
async def _blocked(scene: Scene) -> AsyncIterator[None]:
    scene.wire.block()
    yield
    scene.wire.heal()


@asynccontextmanager
async def _slow(scene: Scene) -> AsyncIterator[None]:
    scene.wire.delay = 0.03
    yield
    scene.wire.heal()


@asynccontextmanager
async def _failed_over(scene: Scene) -> AsyncIterator[None]:
    """The old connections are dead, and nobody says so. It is for the broker to notice, so it does not heal."""
    scene.wire.lose_connections()
    yield


@asynccontextmanager
async def _answers_lost(scene: Scene) -> AsyncIterator[None]:
    """Connections end between a commit and its answer, several times a second."""

    async def lose() -> None:
        while True:
            scene.wire.cut_after(b"COMMIT")
            await asyncio.sleep(0.7)

    losing = asyncio.create_task(lose())
    yield
    losing.cancel()
    scene.wire.cut_after(b"")


@asynccontextmanager
async def _read_only(scene: Scene) -> AsyncIterator[None]:
    """The server becomes a standby: sessions end, and those that follow may read alone."""
    database = f'ALTER DATABASE "{make_url(scene.url).database}"'
    sessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> "
    writable = "SET default_transaction_read_only = off"
    ends = f"{sessions} pg_backend_pid()"
    await asyncio.to_thread(scene.sql, f"{database} SET default_transaction_read_only = on", ends)
    yield
    await asyncio.to_thread(scene.sql, writable, f"{database} RESET default_transaction_read_only")  # no session ends


@asynccontextmanager
async def _table_away(scene: Scene) -> AsyncIterator[None]:
    """A table is not there, as in the middle of a restore."""
    await asyncio.to_thread(scene.sql, "ALTER TABLE rules RENAME TO rules_away")
    yield
    await asyncio.to_thread(scene.sql, "ALTER TABLE rules_away RENAME TO rules")


@asynccontextmanager
async def _head_held(scene: Scene) -> AsyncIterator[None]:
    """Somebody holds the ledger's head and does not come on: another broker that was paused, or a person's session."""
    engine = create_engine(scene.url)
    try:
        with engine.connect() as connection:
            await asyncio.to_thread(connection.execute, text("SELECT size FROM ledger_head FOR UPDATE"))
            yield
    finally:
        engine.dispose()


@asynccontextmanager
async def _locked(scene: Scene) -> AsyncIterator[None]:
    """Another program holds the file's lock: somebody's shell, or a copy that is being made."""
    engine = create_engine(scene.url)
    try:
        with engine.connect() as connection:
            await asyncio.to_thread(connection.execute, text("BEGIN IMMEDIATE"))
            yield
    finally:
        engine.dispose()


@asynccontextmanager
async def _full(scene: Scene) -> AsyncIterator[None]:
    assert scene.disk is not None
    await asyncio.to_thread(scene.disk.fill, scene.pid)
    yield
    scene.disk.clear(scene.pid)


@asynccontextmanager
async def _ahead(scene: Scene) -> AsyncIterator[None]:
    scene.clock.put_off(_HOUR)
    yield
    scene.clock.put_off(timedelta())


@asynccontextmanager
async def _behind(scene: Scene) -> AsyncIterator[None]:
    scene.clock.put_off(-timedelta(minutes=4))  # by more, and every certificate would be of the future
    yield
    scene.clock.put_off(timedelta())


@asynccontextmanager
async def _paused(scene: Scene) -> AsyncIterator[None]:
    os.kill(scene.pid, signal.SIGSTOP)
    yield
    os.kill(scene.pid, signal.SIGCONT)


@asynccontextmanager
async def _dead(scene: Scene) -> AsyncIterator[None]:
    await asyncio.to_thread(scene.die)
    yield
    await asyncio.to_thread(scene.live)


FAULTS = (
    Fault(name="disk full", on=On.SMALL_DISK, inflicted=_full, takes_away=True),
    Fault(name="no file may grow", on=On.FILE, inflicted=_full, seconds=4, quick=True),
    Fault(name="file locked", on=On.FILE, inflicted=_locked),
    Fault(name="clock ahead", on=On.FILE, inflicted=_ahead, serves=True, strange=_BY_THE_CLOCK),
    Fault(name="clock behind", on=On.FILE, inflicted=_behind, serves=True, strange=_BY_THE_CLOCK),
    Fault(name="paused", on=On.FILE, inflicted=_paused),
    Fault(name="killed", on=On.FILE, inflicted=_dead),
    Fault(name="wire cut", on=On.SERVER, inflicted=_cut, seconds=4, quick=True),
    Fault(name="wire cut for long", on=On.SERVER, inflicted=_cut),
    Fault(name="wire blocked", on=On.SERVER, inflicted=_blocked),
    Fault(name="wire slow", on=On.SERVER, inflicted=_slow, serves=True),
    Fault(name="connections dead", on=On.SERVER, inflicted=_failed_over, serves=None),
    Fault(name="answers to commits lost", on=On.SERVER, inflicted=_answers_lost, serves=None),
    Fault(name="server read-only", on=On.SERVER, inflicted=_read_only),
    Fault(name="table away", on=On.SERVER, inflicted=_table_away),
    Fault(name="head held", on=On.SERVER, inflicted=_head_held),
    Fault(name="paused beside another", on=On.SERVER, inflicted=_paused),
    Fault(name="killed beside another", on=On.SERVER, inflicted=_dead),
)
"""All of them."""
