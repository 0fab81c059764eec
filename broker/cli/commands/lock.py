"""`credbroker lock`: no new credentials."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import timedelta

import click

from broker.cli.failure import for_each
from broker.cli.options import Caller, lifetime_option, remote, span
from broker.cli.output import show, show_list
from broker.cli.paging import take
from broker.cli.render import plain
from broker.cli.selection import required, selector_options
from broker.v1 import operator_service_pb2 as pb
from broker.v1.selector_pb2 import Lock, Selector

_COLUMNS = ("lock_id", "selector", "reason", "created_by", "create_time", "expire_time")


@click.group()
def lock() -> None:
    """Stop new and renewed credentials for what a selector covers. What is live stays live."""


@lock.command()
@selector_options
@click.option("--reason", required=True, help="Why. Recorded, and told to those it stops.")
@lifetime_option("When it lifts by itself; without: when it is deleted.")
@remote
def create(caller: Caller, selector: Selector | None, reason: str, lifetime: timedelta | None) -> None:
    """Set a lock.

    \b
    credbroker lock create --tool https://repo.example.org#delete_branch --tenant acme \\
      --reason "freeze for the release" --lifetime 4h
    """
    from broker.cli.calls import as_operator

    request = pb.CreateLockRequest(selector=required(selector), reason=reason, lifetime=span(lifetime))
    with as_operator(caller) as broker:
        show(plain(broker.CreateLock(request, timeout=caller.timeout)))


@lock.command("list")
@remote
def list_locks(caller: Caller) -> None:
    """List the locks in force.

    \b
    credbroker lock list
    """
    from broker.cli.calls import as_operator

    with as_operator(caller) as broker:

        def page(size: int, token: str) -> tuple[Sequence[Lock], str]:
            answer = broker.ListLocks(pb.ListLocksRequest(page_size=size, page_token=token), timeout=caller.timeout)
            return answer.locks, answer.next_page_token

        found, _ = take(sys.maxsize, page)
    show_list("locks", [plain(lock) for lock in found], _COLUMNS)


@lock.command()
@click.argument("lock_ids", metavar="LOCK...", nargs=-1, required=True)
@remote
def delete(caller: Caller, lock_ids: tuple[str, ...]) -> None:
    """Lift locks.

    \b
    credbroker lock delete 0198f3c4-5a11-7d02-b1e9-90c7d3f1a2b4
    """
    from broker.cli.calls import as_operator

    def one(lock_id: str) -> dict[str, object]:
        with as_operator(caller) as broker:
            answer = broker.DeleteLock(pb.DeleteLockRequest(lock_id=lock_id), timeout=caller.timeout)
        return {"lock_id": lock_id, "index": answer.index}

    deleted = for_each(lock_ids, one)
    show_list("deleted", deleted.done, ("lock_id", "index"))
    deleted.conclude()
