"""The brokers that a bench starts: one, or several on one database, at ports that they keep when they start again.

On a file, several are the workers of one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copytree

from broker.sandbox.broker import Broker, prepare, running
from broker.sandbox.deployment import Deployment
from broker.sandbox.ports import free_port

_PROGRAM = "broker.cli.bench.daemon"


@dataclass(slots=True)
class Cluster:
    """Brokers on one database, each with a folder of its own; that of the first is `deployment`."""

    deployment: Deployment
    _homes: dict[Path, int]  # their ports
    _workers: int = 0
    brokers: list[Broker] = field(default_factory=list)
    _lives: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        """Start all of them: anew, if they have run before.

        Raises:
            SandboxProblem: one does not start.
        """
        self.stop()
        for home, port in self._homes.items():
            if not home.exists():  # who joins has the keys, and knows what was signed last
                copytree(self.deployment.directory, home)
            self.brokers.append(self._lives.enter_context(running(home, _PROGRAM, port, self._workers)))

    def stop(self) -> None:
        """Stop all of them."""
        self.brokers.clear()
        self._lives.close()


@contextmanager
def cluster(directory: Path, count: int, database: str) -> Iterator[Cluster]:
    """Prepare so many brokers on a database, as a configuration has it, for the time of a block; start none yet."""
    workers = count if count > 1 and "://" not in database else 0
    homes = [directory / f"broker-{number}" for number in range(1 if workers else count)]
    deployment = prepare(homes[0])
    deployment.use_database(database)
    brokers = Cluster(deployment, {home: free_port() for home in homes}, workers)
    try:
        yield brokers
    finally:
        brokers.stop()
