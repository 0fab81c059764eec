"""What a credential is to be for, as commands are told."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import click

from broker.cli.notation import gather
from broker.cli.options import lifetime_option, span
from broker.cli.unverified import decode
from broker.model.duration import format_duration
from broker.model.grant import ResourceGrants
from broker.v1 import agent_service_pb2 as pb
from broker.wire.grants import grants_to_wire

_WHOLE_SECONDS = timedelta(seconds=2)  # what may be lost where instants are written in whole ones


@dataclass(frozen=True, slots=True)
class Wanted:
    """Tools of one resource, for a task. Without a `lifetime`: as long as policy allows."""

    task_id: str
    tools: ResourceGrants
    lifetime: timedelta | None

    def request(self, request_id: str = "") -> pb.IssueCredentialRequest:
        """Return the request that asks for it."""
        return pb.IssueCredentialRequest(
            task_id=self.task_id,
            resource=self.tools.resource,
            grants=grants_to_wire(self.tools.grants),
            lifetime=span(self.lifetime),
            request_id=request_id,
        )


def wanted_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say what a credential is for; the command gets them as `wanted`."""

    @functools.wraps(command)
    def run(
        task_id: str, tools: tuple[str, ...], constraints: tuple[str, ...], lifetime: timedelta | None, **rest: object
    ) -> object:
        return command(wanted=Wanted(task_id, _one_resource(tools, constraints), lifetime), **rest)

    decorated: Callable[..., Any] = run
    for option in (
        lifetime_option("How long it should live; without: as long as policy allows."),
        click.option(
            "--constraint",
            "constraints",
            multiple=True,
            metavar="TOOL:/PATH:OP:VALUE",
            help="A further bound. Repeatable.",
        ),
        click.option(
            "--tool",
            "tools",
            multiple=True,
            required=True,
            metavar="RESOURCE#TOOL",
            help="A tool, of one resource. Repeatable.",
        ),
        click.option("--task", "task_id", required=True, metavar="TASK", help="The task it is for."),
    ):
        decorated = option(decorated)
    return decorated


def _one_resource(tools: tuple[str, ...], constraints: tuple[str, ...]) -> ResourceGrants:
    try:
        wanted = gather(tools, constraints)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if len(wanted) != 1:
        named = ", ".join(grants.resource for grants in wanted)
        raise click.UsageError(f"a credential is for one resource, not for {named}: ask for one each")
    return wanted[0]


def shortened(token: str, asked: timedelta | None) -> list[str]:
    """Say it, if a token lives shorter than was asked for."""
    claims = decode(token).claims
    got = timedelta(seconds=claims["exp"] - claims["iat"])
    if asked is None or asked - got < _WHOLE_SECONDS:
        return []
    because = "the policy bundle, the broker's limits, the task's deadline or your own certificate allow no more"
    return [f"asked for {format_duration(asked)}, and got {format_duration(got)}: {because}"]
