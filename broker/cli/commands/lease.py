"""`credbroker lease`: who holds what."""

from __future__ import annotations

import click

from broker.cli.options import Caller, limit_option, remote
from broker.cli.output import note, show, show_list
from broker.cli.paging import take
from broker.cli.render import plain
from broker.cli.selection import selector_options
from broker.v1 import lease_pb2
from broker.v1 import operator_service_pb2 as pb
from broker.v1.selector_pb2 import Selector

COLUMNS = ("lease_id", "state", "holder", "task_id", "resource", "grants", "expire_time")
"""What a table of leases shows."""


@click.group()
def lease() -> None:
    """See who holds what. For workloads of the group "operators"."""


@lease.command("list")
@selector_options
@click.option("--live", "live_only", is_flag=True, help="Only those that are live now.")
@limit_option
@remote
def list_leases(caller: Caller, *, selector: Selector | None, live_only: bool, limit: int) -> None:
    """List leases, newest first.

    \b
    credbroker lease list --live --agent spiffe://example.org/agent/researcher --tenant acme
    """
    from broker.cli.calls import as_operator

    with as_operator(caller) as broker:

        def page(size: int, token: str) -> tuple[list[lease_pb2.Lease], str]:
            request = pb.ListLeasesRequest(selector=selector, live_only=live_only, page_size=size, page_token=token)
            answer = broker.ListLeases(request, timeout=caller.timeout)
            return list(answer.leases), answer.next_page_token

        leases, more = take(limit, page)
    show_list("leases", [plain(found) for found in leases], COLUMNS, more=more)
    if more:
        note(f"there are more: --limit {limit * 10}")


@lease.command("show")
@click.argument("lease_id", metavar="LEASE")
@remote
def show_lease(caller: Caller, lease_id: str) -> None:
    """Show a lease.

    \b
    credbroker lease show 0198f3c3-0f52-7a90-8c2f-2d4e6a8b1c3d
    """
    from broker.cli.calls import as_operator

    with as_operator(caller) as broker:
        show(plain(broker.GetLease(pb.GetLeaseRequest(lease_id=lease_id), timeout=caller.timeout)))
