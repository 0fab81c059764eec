"""Two brokers on one PostgreSQL, each of which may end and live again at its port, and clients that know both."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select

from broker.model.grant import Grant
from broker.model.task import TaskState
from broker.sandbox.broker import RESOURCE, TOOL, Broker
from broker.sandbox.ports import free_port
from broker.sdk.client.client import Client
from broker.store import schema
from broker.store.database import open_database
from tests.faults.life import ROOT, ended, living, settle

_MARK = Path("keys") / "ledger.mark"
_PAUSE_SECONDS = 0.02  # between the calls of one client


@dataclass
class Pair:
    """Two brokers. `either` is where clients find them: its address names both. `code` is the tree that starts next."""

    folder: Path
    url: str
    code: Path = ROOT
    either: Broker = field(init=False)
    _homes: list[Path] = field(init=False)
    _ports: list[int] = field(default_factory=lambda: [free_port(), free_port()])
    _lives: list[ExitStack] = field(default_factory=lambda: [ExitStack(), ExitStack()])
    _brokers: dict[int, Broker] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._homes = [self.folder / "a", self.folder / "b"]
        settle(self._homes[0], self.url)
        shutil.copytree(self._homes[0], self._homes[1])
        addresses = ",".join(f"localhost:{port}" for port in self._ports)
        self.either = Broker(addresses, self._homes[0] / "svids")

    def move(self, number: int, url: str) -> None:
        """Let one of them find the database at another URL from its next life on."""
        settle(self._homes[number], url)

    def pause(self, number: int, how: signal.Signals = signal.SIGSTOP) -> None:
        """Let one of them stand still; or go on, by SIGCONT."""
        pid = self._brokers[number].pid
        assert pid is not None
        os.kill(pid, how)

    def address(self, number: int) -> str:
        """Return where one of them is."""
        return f"localhost:{self._ports[number]}"

    async def live(self, number: int) -> None:
        """Start one of them: anew, if it has lived before."""
        await asyncio.to_thread(self._live, number)

    async def end(self, number: int, how: signal.Signals = signal.SIGTERM) -> None:
        """End one of them, and wait until it is gone."""
        broker = self._brokers[number]
        assert broker.pid is not None
        os.kill(broker.pid, how)
        await ended(broker)
        await asyncio.to_thread(self._lives[number].close)

    async def renew(self, number: int, how: signal.Signals = signal.SIGTERM) -> None:
        """End one of them, and start it again."""
        await self.end(number, how)
        await self.live(number)

    def leases(self) -> Counter[str]:
        """Count the leases of each task in the database."""
        database = open_database(self.url)
        try:
            with database.snapshot() as connection:
                return Counter(connection.execute(select(schema.leases.c.task_id)).scalars())
        finally:
            database.close()

    def close(self) -> None:
        """End both."""
        for life in self._lives:
            life.close()

    def _live(self, number: int) -> None:
        mark, other = (self._homes[of] / _MARK for of in (number, 1 - number))
        if not mark.exists() and other.exists():
            shutil.copy(other, mark)  # as a broker that joins another is given it
        self._brokers[number] = self._lives[number].enter_context(
            living(self._homes[number], self._ports[number], code=self.code)
        )


@contextmanager
def paired(folder: Path, url: str) -> Iterator[Pair]:
    """Make a pair for the time of a block; neither lives yet."""
    pair = Pair(folder, url)
    try:
        yield pair
    finally:
        pair.close()


@dataclass
class Clients:
    """SDK clients that begin tasks, get credentials, renew and release them, and end tasks, until it is enough.

    Of `number` of them half are orchestrators and half agents, each with connections of its own. `lives` are the tasks
    that have come to their end.
    """

    broker: Broker
    number: int
    lives: list[str] = field(default_factory=list)
    _enough: asyncio.Event = field(default_factory=asyncio.Event)
    _working: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self) -> None:
        """Begin."""
        self._working = [asyncio.create_task(self._work()) for _ in range(self.number // 2)]

    async def come_to(self, more: int) -> None:
        """Wait until so many more lives have ended well.

        Raises:
            Refusal: a call has failed.
        """
        until = len(self.lives) + more
        while len(self.lives) < until:
            for working in self._working:
                if working.done():
                    working.result()
            await asyncio.sleep(_PAUSE_SECONDS)

    async def finish(self) -> None:
        """Come to an end.

        Raises:
            Refusal: a call has failed.
        """
        self._enough.set()
        await asyncio.gather(*self._working)

    async def _work(self) -> None:
        async with AsyncExitStack() as stack:
            orchestrator, agent = [
                await stack.enter_async_context(Client(self.broker.address, self.broker.svids / name))
                for name in ("orchestrator", "researcher")
            ]
            while not self._enough.is_set():
                await self._live(orchestrator, agent)

    async def _live(self, orchestrator: Client, agent: Client) -> None:
        task = await orchestrator.create_task(self.broker.declaration())
        credential = await agent.issue(task.id, RESOURCE, [Grant(TOOL)])
        for _ in range(3):
            await asyncio.sleep(_PAUSE_SECONDS)
            await agent.renew(credential)
        assert await agent.release(credential.lease_id)
        assert await orchestrator.end_task(task.id, TaskState.COMPLETED, barrier=True)
        self.lives.append(task.id)
