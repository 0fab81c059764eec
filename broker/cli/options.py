"""Options and parameter types that commands share."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
from google.protobuf.duration_pb2 import Duration

from broker.cli.output import output_option
from broker.model.duration import format_duration, parse_duration
from broker.wire.times import duration_to_wire

INDEX = click.IntRange(0, 2**63 - 1)
"""The index of an entry, as far as the wire has room for it."""


@dataclass(frozen=True, slots=True)
class Caller:
    """How to reach the broker, and as whom. What is None the SDK takes from the environment.

    `timeout` is in seconds and holds for each call.
    """

    address: str | None
    svid_dir: Path | None
    timeout: float


class DurationType(click.ParamType[timedelta]):
    """A duration such as `15m`."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read it."""
        if isinstance(value, timedelta):
            return value
        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def span(lifetime: timedelta | None) -> Duration | None:
    """Return an optional duration as a message."""
    return None if lifetime is None else duration_to_wire(lifetime)


def remote(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of commands that call the broker and show what it answers."""
    return output_option(calling(command))


def calling(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of commands that call the broker; the command gets them as `caller`."""

    @functools.wraps(command)
    def run(address: str | None, svid_dir: Path | None, timeout: timedelta, **rest: object) -> object:
        return command(caller=Caller(address, svid_dir, timeout.total_seconds()), **rest)

    for option in (
        click.option(
            "--timeout",
            type=DurationType(),
            default=format_duration(timedelta(seconds=30)),
            show_default=True,
            help="How long each call may take.",
        ),
        click.option(
            "--svid-dir",
            type=click.Path(path_type=Path),
            help="Folder with svid.pem, key.pem, bundle.pem.  [env var: CREDBROKER_SVID_DIR]",
        ),
        click.option("--address", help="The broker, as host:port; several with commas.  [env var: CREDBROKER_ADDRESS]"),
    ):
        run = option(run)
    return run


def lifetime_option(help: str, **settings: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:  # noqa: ANN401 (click's)
    """Add `--lifetime`."""
    return click.option("--lifetime", type=DurationType(), metavar="DURATION", help=help, **settings)


def limit_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--limit`, of a list that comes in pages."""
    return click.option(
        "--limit", type=click.IntRange(1, sys.maxsize), default=100, show_default=True, help="At most so many."
    )(command)


def config_option(help: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add `--config`, of a command that needs a broker's configuration."""
    return click.option(
        "--config",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        required=True,
        envvar="CREDBROKER_CONFIG",
        show_envvar=True,
        help=help,
    )
