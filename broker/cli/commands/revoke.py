"""`credbroker revoke`: the emergency."""

from __future__ import annotations

import sys
from datetime import timedelta

import click

from broker.cli.closing import require_closed
from broker.cli.commands.lease import COLUMNS
from broker.cli.failure import Exit, Stop
from broker.cli.options import Caller, DurationType, remote, span
from broker.cli.output import cell, note, printable, show, show_list
from broker.cli.render import plain
from broker.cli.selection import required, selector_options
from broker.cli.unverified import decode, read_token
from broker.v1 import operator_service_pb2 as pb
from broker.v1.selector_pb2 import Selector


@click.command()
@selector_options
@click.option("--token", "source", metavar="-|FILE", help="The lease of this token, from stdin or a file.")
@click.option("--reason", default="", help="Why. Recorded. Required, except with --token.")
@click.option("--dry-run", is_flag=True, help="Change nothing; say what would be hit.")
@click.option("--lock", is_flag=True, help="Also stop new credentials, in the same step.")
@click.option("--lock-lifetime", type=DurationType(), metavar="DURATION", help="When that lock lifts by itself.")
@click.option("--barrier", is_flag=True, help="Return when no verifier can accept any of it any more.")
@click.option("--within", type=DurationType(), metavar="DURATION", help="With --barrier: wait no longer than this.")
@click.option(
    "--or-stop-freshness",
    is_flag=True,
    help="If it cannot be recorded: let no verifier of the tenant accept anything, until it is.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@remote
def revoke(
    caller: Caller,
    *,
    selector: Selector | None,
    source: str | None,
    reason: str,
    dry_run: bool,
    lock: bool,
    lock_lifetime: timedelta | None,
    barrier: bool,
    within: timedelta | None,
    or_stop_freshness: bool,
    yes: bool,
) -> None:
    """Kill credentials: one, or everything a selector covers. One rule is recorded, however many they are.

    On a terminal it first shows what would be hit, and asks. With --barrier and --within the exit code is 7 if somebody
    can still accept it when the time is up; `closing` then says who, and by when nobody can.

    \b
    credbroker revoke --agent spiffe://example.org/agent/researcher --tenant acme \\
      --reason "prompt injection, ticket 4711" --lock --barrier
    credbroker revoke --token -          (paste a leaked token)
    """
    if source is not None:
        selector = _of_token(source, selector)
        reason = reason or "token reported as leaked"
    selector = required(selector)
    if lock_lifetime and not lock:
        raise click.UsageError("--lock-lifetime needs --lock")
    if dry_run:
        _show_preview(_preview(caller, selector))
        return
    if not reason:
        raise click.UsageError("say why: --reason")
    if sys.stdin.isatty() and not yes:
        _ask(caller, selector)
    request = pb.RevokeLeasesRequest(
        selector=selector,
        reason=reason,
        lock=lock,
        lock_lifetime=span(lock_lifetime),
        barrier=barrier,
        barrier_within=span(within),
        or_stop_freshness=or_stop_freshness,
    )
    _show_receipt(_call(caller, request), barrier=barrier)


def _of_token(source: str, selector: Selector | None) -> Selector:
    """Select the lease that a token names. Unverified, which is safe: revoking only takes away."""
    if selector is not None:
        raise click.UsageError("--token names the lease: leave the selector out")
    claims = decode(read_token(source)).claims
    private = claims.get("credbroker")
    lease_id, tenant = claims.get("jti"), private.get("tenant") if isinstance(private, dict) else None
    if not (isinstance(lease_id, str) and lease_id and isinstance(tenant, str) and tenant):
        raise click.UsageError("this token is not one of ours: it names no lease and tenant")
    return Selector(tenant=tenant, lease_id=lease_id)


def _call(caller: Caller, request: pb.RevokeLeasesRequest) -> pb.RevokeLeasesResponse:
    from broker.cli.calls import as_operator

    with as_operator(caller) as broker:
        return broker.RevokeLeases(request, timeout=caller.timeout)


def _preview(caller: Caller, selector: Selector) -> pb.RevokeLeasesResponse:
    return _call(caller, pb.RevokeLeasesRequest(selector=selector, dry_run=True))


def _show_preview(answer: pb.RevokeLeasesResponse) -> None:
    found, warnings = [plain(lease) for lease in answer.sample], list(answer.warnings)
    show_list("sample", found, COLUMNS, live_leases=answer.live_leases, warnings=warnings)
    note(f"{answer.live_leases} live leases would be revoked; nothing was changed")
    for warning in warnings:
        note(f"warning: {printable(warning)}")


def _ask(caller: Caller, selector: Selector) -> None:
    answer = _preview(caller, selector)
    for found in answer.sample:
        click.echo(printable(f"  {found.lease_id}  {found.holder}  {cell(plain(found)['grants'])}"), err=True)
    if answer.live_leases > len(answer.sample):
        click.echo(f"  and {answer.live_leases - len(answer.sample)} more", err=True)
    for warning in answer.warnings:
        click.echo(printable(f"warning: {warning}"), err=True)
    question = f"revoke {answer.live_leases} live leases, and every older one that {cell(plain(selector))} covers?"
    if not click.confirm(printable(question), err=True):
        raise Stop("declined: nothing was revoked", Exit.STOPPED)


def _show_receipt(answer: pb.RevokeLeasesResponse, *, barrier: bool) -> None:
    receipt: dict[str, object] = {
        "rule": plain(answer.rule),
        "lock": plain(answer.lock) if answer.HasField("lock") else None,
        "warnings": list(answer.warnings),
    }
    if barrier:
        receipt |= {"confirmed_verifiers": answer.confirmed_verifiers, "stale_verifiers": answer.stale_verifiers}
        receipt["closing"] = plain(answer.closing)
    show(receipt)
    if barrier:
        require_closed(answer.closing)
