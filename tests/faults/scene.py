"""Where a fault is played: a broker, its database, and what can be done to both."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import create_engine, make_url, text

from broker.sandbox.broker import Broker
from broker.sandbox.ports import free_port
from tests.faults.clock import SteeredClock
from tests.faults.disk import Disk, FileLimit, Tmpfs, small_disk
from tests.faults.launch import CLOCK
from tests.faults.life import kill, living, settle
from tests.faults.proxy import Proxy


@dataclass
class Scene:
    """A broker that lives again at the same port, and what it stands on: a disk for its file, or a wire to its server.

    `elsewhere` is a second broker on the same PostgreSQL, with a wire of its own; on a file, there is none. With
    `workers` the broker serves in so many processes.
    """

    folder: Path
    url: str  # of the database, as the broker or others in its place reach it
    disk: Disk | None = None
    proxy: Proxy | None = None
    elsewhere: Broker | None = None
    workers: int = 0
    broker: Broker = field(init=False)
    _port: int = field(default_factory=free_port)
    _life: ExitStack = field(default_factory=ExitStack)

    @property
    def pid(self) -> int:
        """The broker's process."""
        assert self.broker.pid is not None
        return self.broker.pid

    @property
    def wire(self) -> Proxy:
        """The wire to the database."""
        assert self.proxy is not None
        return self.proxy

    @property
    def clock(self) -> SteeredClock:
        """The broker's clock."""
        return SteeredClock(self.folder / CLOCK)

    def live(self) -> None:
        """Start the broker: anew, if it has lived before."""
        self._life.close()
        within = self.disk.start if self.disk else ()
        self.broker = self._life.enter_context(living(self.folder, self._port, within=within, workers=self.workers))

    def die(self) -> None:
        """Kill the broker."""
        kill(self.broker)
        self._life.close()

    def stop(self) -> None:
        """Stop the broker as an operator does."""
        self._life.close()

    def readable(self) -> str:
        """Return the URL by which the database is read from here: of a copy, if it is on a disk of its own."""
        if not isinstance(self.disk, Tmpfs):
            return self.url
        copy = self.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for file in self.disk.seen().glob("broker.db*"):
            shutil.copy(file, copy)
        return f"sqlite:///{copy / 'broker.db'}"

    def sql(self, *statements: str) -> None:
        """Let an administrator of the database say something."""
        engine = create_engine(self.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for statement in statements:
                connection.execute(text(statement))
        engine.dispose()


@contextmanager
def on_file(folder: Path) -> Iterator[Scene]:
    """Play on a SQLite file, whose size can be limited."""
    settle(folder, f"sqlite:///{folder / 'broker.db'}")
    yield from _played(Scene(folder, f"sqlite:///{folder / 'broker.db'}", disk=FileLimit(folder)))


@contextmanager
def on_small_disk(folder: Path) -> Iterator[Scene]:
    """Play on a SQLite file on a small disk."""
    data = folder / "data"
    settle(folder, f"sqlite:///{data / 'broker.db'}")
    with small_disk(data) as disk:
        yield from _played(Scene(folder, f"sqlite:///{data / 'broker.db'}", disk=disk))


@contextmanager
def on_server(folder: Path, url: str) -> Iterator[Scene]:
    """Play on a PostgreSQL behind a proxy."""
    home, other = folder / "broker", folder / "elsewhere"
    server = make_url(url)
    settle(other, url)
    shutil.copytree(other, home)
    with Proxy(Path(str(server.query["host"])) / ".s.PGSQL.5432").running() as proxy, living(other) as elsewhere:
        near = server.set(host="127.0.0.1", port=proxy.port, query={}).render_as_string(hide_password=False)
        settle(home, near)
        shutil.copy(other / "keys" / "ledger.mark", home / "keys")  # as a broker that joins others is given it
        yield from _played(Scene(home, url, proxy=proxy, elsewhere=elsewhere))


def _played(scene: Scene) -> Iterator[Scene]:
    scene.live()
    try:
        yield scene
    finally:
        scene.stop()
