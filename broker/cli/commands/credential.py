"""`credbroker credential`: what an agent does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from broker.cli.failure import for_each
from broker.cli.options import Caller, lifetime_option, remote, span
from broker.cli.output import note, output_option, show, show_list, wants_json
from broker.cli.private import check_target, refuse_to_reveal_to_models
from broker.cli.render import plain
from broker.cli.unverified import decode, read_token
from broker.cli.wanted import Wanted, shortened, wanted_options
from broker.disk import files
from broker.v1 import agent_service_pb2 as pb


@click.group()
def credential() -> None:
    """Get, renew, release and inspect credentials. For workloads of the group "agents"."""


def _destination_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the two ways to hand over a token."""
    out = click.option(
        "--out", type=click.Path(path_type=Path), metavar="FILE", help="Write the token here (mode 0600)."
    )
    reveal = click.option("--reveal", is_flag=True, help="Print the token.")
    return out(reveal(command))


def _check_destination(out: Path | None, *, reveal: bool) -> None:
    """Know where the token goes before there is one: a token that nobody gets is a lease that nobody can use."""
    if reveal == (out is not None):
        raise click.UsageError("say where the token goes: --out FILE (mode 0600), or --reveal to print it")
    if reveal:
        refuse_to_reveal_to_models()
    if out is not None:
        check_target(out)


def _hand_over(
    answer: pb.IssueCredentialResponse | pb.RenewCredentialResponse, out: Path | None, asked: timedelta | None
) -> None:
    lease = {**plain(answer.lease), "warnings": shortened(answer.token, asked)}
    if out is not None:
        files.replace(out, answer.token.encode())
        show({**lease, "token_file": str(out)})
    elif wants_json():
        show({**lease, "token": answer.token})
    else:
        show(lease)
        click.echo(answer.token)  # a line of its own, never wrapped


@credential.command()
@wanted_options
@click.option("--request-id", default="", help="The same request under the same id gives the same lease again.")
@_destination_options
@remote
def issue(caller: Caller, *, wanted: Wanted, request_id: str, out: Path | None, reveal: bool) -> None:
    """Get a credential for tools of one resource.

    \b
    credbroker credential issue --task 0198f3c2-7b1e-7c11-9d3a-5b1c2f7d9e40 \\
      --tool https://repo.example.org#read_file \\
      --constraint read_file:/ref:in:main,develop --lifetime 5m --out token
    """
    _check_destination(out, reveal=reveal)
    from broker.cli.calls import as_agent

    with as_agent(caller) as broker:
        answer = broker.IssueCredential(wanted.request(request_id), timeout=caller.timeout)
    _hand_over(answer, out, wanted.lifetime)


@credential.command()
@click.argument("lease_id", metavar="LEASE")
@lifetime_option("How long the new token should live; without: as long as policy allows.")
@click.option("--request-id", default="", help="The same request under the same id renews once.")
@_destination_options
@remote
def renew(
    caller: Caller, *, lease_id: str, lifetime: timedelta | None, request_id: str, out: Path | None, reveal: bool
) -> None:
    """Get a new token on a live lease of yours.

    \b
    credbroker credential renew 0198f3c3-0f52-7a90-8c2f-2d4e6a8b1c3d --out token
    """
    _check_destination(out, reveal=reveal)
    request = pb.RenewCredentialRequest(lease_id=lease_id, lifetime=span(lifetime), request_id=request_id)
    from broker.cli.calls import as_agent

    with as_agent(caller) as broker:
        answer = broker.RenewCredential(request, timeout=caller.timeout)
    _hand_over(answer, out, lifetime)


@credential.command()
@click.argument("lease_ids", metavar="LEASE...", nargs=-1, required=True)
@remote
def release(caller: Caller, lease_ids: tuple[str, ...]) -> None:
    """Give leases of yours back: their tokens are dead.

    \b
    credbroker credential release 0198f3c3-0f52-7a90-8c2f-2d4e6a8b1c3d
    """
    from broker.cli.calls import as_agent

    def one(lease_id: str) -> dict[str, object]:
        with as_agent(caller) as broker:
            answer = broker.ReleaseCredential(pb.ReleaseCredentialRequest(lease_id=lease_id), timeout=caller.timeout)
        return {"lease_id": lease_id, "rule_index": answer.index}

    released = for_each(lease_ids, one)
    show_list("released", released.done, ("lease_id", "rule_index"))
    released.conclude()


@credential.command()
@click.argument("source", metavar="[FILE]", default="-")
@output_option
def inspect(source: str) -> None:
    """Show what a token says, from a file or stdin, without verifying it.

    \b
    credbroker credential inspect token
    """
    token = decode(read_token(source))
    note("not verified: anybody can write such claims; `credbroker lease show` tells what the broker knows")
    show({"verified": False, "header": token.header, "claims": token.claims} if wants_json() else token.claims)
