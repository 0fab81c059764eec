"""The options of `credbroker bench`: whose broker is measured, where one of its own lives, and the load on it."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.cli.notation import parse_tool
from broker.cli.output import output_option

if TYPE_CHECKING:
    from broker.cli.bench.cluster import Cluster
    from broker.sandbox.broker import Broker

_SQLITE = "sqlite"


@dataclass(frozen=True, slots=True)
class Given:
    """A deployment of the user's."""

    address: str
    svids: Path
    tool: str

    def broker(self) -> Broker:
        """Return it as the benches know brokers."""
        from broker.sandbox.broker import Broker, agent_of

        resource, name = parse_tool(self.tool)
        return Broker(self.address, self.svids, agent_of(self.svids), resource, name)


def deployment(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that name a deployment; the command gets it as `given`."""

    @functools.wraps(command)
    def run(address: str | None, svids: Path | None, tool: str | None, **rest: Any) -> None:  # noqa: ANN401 (click's)
        if address is None and svids is None and tool is None:
            command(given=None, **rest)
        elif address is None or svids is None or tool is None:
            raise click.UsageError("--address, --svids and --tool belong together")
        else:
            command(given=Given(address, svids, tool), **rest)

    for option in (
        click.option("--tool", metavar="RESOURCE#TOOL", help="Of that broker: a tool its policy lets the agent have."),
        click.option(
            "--svids",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            help="Of that broker: a folder with SVIDs `orchestrator`, `researcher`, `operator` and `verifier`.",
        ),
        click.option("--address", help="Measure this broker, as host:port, instead of one of its own."),
    ):
        run = option(run)
    return output_option(run)


@dataclass(frozen=True, slots=True)
class Home:
    """Where brokers of the bench's own live, and on what database."""

    parent: Path | None
    database: str
    most_brokers: int

    @contextmanager
    def clusters(self) -> Iterator[tuple[Path, Callable[[int], Cluster]]]:
        """Yield a folder, and what prepares so many brokers on a new database, for the time of a block."""
        from broker.cli.bench.cluster import cluster
        from broker.cli.bench.databases import new_databases

        with ExitStack() as stack:
            directory = stack.enter_context(folder(self.parent))
            new = stack.enter_context(new_databases(self.database, directory))
            names = (f"cluster-{number}" for number in count())
            yield directory, lambda size: stack.enter_context(cluster(directory / next(names), size, new()))


def several(name: str, what: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options that say where brokers of the bench's own live; the command gets them as `home`.

    The option `name` says how many there are at the most.
    """

    def add(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(parent: Path | None, database: str | None, brokers: int, given: Given | None, **rest: Any) -> None:  # noqa: ANN401 (click's)
            if given is not None and (parent, database, brokers) != (None, None, 1):
                raise click.UsageError(
                    f"--dir, --database and {name} are of brokers of the bench's own, without --address"
                )
            command(home=Home(parent, database or _SQLITE, brokers), given=given, **rest)

        for option in (
            click.option(
                "--database",
                metavar="sqlite|postgresql|URL",
                help="A file (the default), a PostgreSQL that the bench starts, or a server that you have.",
            ),
            click.option(
                "--dir",
                "parent",
                type=click.Path(exists=True, file_okay=False, path_type=Path),
                help="Where to make the bench's folder: on a memory file system, say.",
            ),
            click.option(name, "brokers", type=click.IntRange(1), default=1, show_default=True, help=what),
        ):
            run = option(run)
        return run

    return add


@contextmanager
def folder(parent: Path | None = None) -> Iterator[Path]:
    """Make a folder for the time of a block, in another if one is named."""
    with tempfile.TemporaryDirectory(prefix="credbroker-bench-", dir=parent) as directory:
        yield Path(directory)


def repeated(default: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add `--rounds`."""
    return click.option("--rounds", type=click.IntRange(1), default=default, show_default=True, help="How often.")


def under_load(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a load; the command gets it as `load`."""

    @functools.wraps(command)
    def run(processes: int, concurrency: int, connections: int, rounds: int, seconds: float, **rest: Any) -> None:  # noqa: ANN401 (click's)
        from broker.cli.bench.rounds import Load

        load = Load(
            processes=processes, concurrency=concurrency, connections=connections, rounds=rounds, seconds=seconds
        )
        command(load=load, **rest)

    loaded: Callable[..., None] = run
    for option in (
        click.option("--seconds", type=click.FloatRange(0.1), default=2.0, show_default=True, help="Of each round."),
        repeated(5),
        click.option(
            "--connections", type=click.IntRange(1), default=1, show_default=True, help="That they share out."
        ),
        click.option("--concurrency", type=click.IntRange(1), default=256, show_default=True, help="Calls at a time."),
        click.option("--processes", type=click.IntRange(1), default=1, show_default=True, help="That call so many."),
    ):
        loaded = option(loaded)
    return loaded
