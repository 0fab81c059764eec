"""OperatorService: emergency and everyday control."""

from __future__ import annotations

from dataclasses import dataclass

from broker.api import pages, requests
from broker.lease import lock, revoke, slips
from broker.lease.desk import Desk
from broker.lease.revoke import LockRequest
from broker.model.errors import Hints, Reason, Refusal
from broker.model.principal import Principal
from broker.model.selector import Selector, Target
from broker.revocation.feed import Feed
from broker.revocation.unrecorded import unrecorded
from broker.store import leases, locks
from broker.v1 import lease_pb2, selector_pb2
from broker.v1 import operator_service_pb2 as pb
from broker.wire.leases import lease_to_wire
from broker.wire.selectors import lock_to_wire, rule_to_wire

_LONGEST_REASON = 512
_LOCKS_PER_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class OperatorService:
    """The RPCs of operator_service.proto."""

    desk: Desk
    feed: Feed

    async def list_leases(self, operator: Principal, request: pb.ListLeasesRequest) -> pb.ListLeasesResponse:
        """List leases."""
        selector = Selector(operator.tenant, Target.ALL)
        if request.HasField("selector"):
            selector = _own(operator, request.selector)
        now = self.desk.clock()
        page = pages.page(request)
        live_at = now if request.live_only else None
        found = await self.desk.database.read(
            lambda connection: leases.page(connection, selector, live_at, page.position, page.size)
        )
        shown, following = page.of(found, lambda lease: lease_to_wire(lease, now), lambda lease: lease.index)
        return pb.ListLeasesResponse(leases=shown, next_page_token=following)

    async def get_lease(self, operator: Principal, request: pb.GetLeaseRequest) -> lease_pb2.Lease:
        """Show a lease."""
        lease_id = requests.required(request.lease_id, "lease_id")
        found = await self.desk.database.read(lambda connection: leases.fetch(connection, [lease_id]))
        lease = found.get(lease_id)
        if lease is None or not operator.may_see(lease.tenant):
            raise Refusal(Reason.LEASE_NOT_FOUND, f"there is no lease `{lease_id}`", Hints(next="check the id"))
        return lease_to_wire(lease, self.desk.clock())

    async def revoke_leases(self, operator: Principal, request: pb.RevokeLeasesRequest) -> pb.RevokeLeasesResponse:
        """Revoke by selector, or say what that would hit."""
        selector = _own(operator, request.selector)
        if request.dry_run:
            hit = await revoke.preview(self.desk, selector)
            now = self.desk.clock()
            return pb.RevokeLeasesResponse(
                live_leases=hit.live_leases,
                sample=[lease_to_wire(lease, now) for lease in hit.sample],
                warnings=await slips.in_selector(self.desk, selector),
            )
        lock = LockRequest(lifetime=requests.lifetime(request, "lock_lifetime")) if request.lock else None
        reason = requests.text(request.reason, "reason", _LONGEST_REASON)
        try:
            rule, made = await revoke.revoke(self.desk, operator, selector, reason, lock)
        except Refusal as refusal:
            if refusal.reason is not Reason.LEDGER_UNAVAILABLE:
                raise
            raise unrecorded(self.feed, selector, refusal, stop_freshness=request.or_stop_freshness) from refusal
        response = pb.RevokeLeasesResponse(rule=rule_to_wire(rule), lock=None if made is None else lock_to_wire(made))
        if request.barrier:
            receipt = await self.feed.barrier(rule.index, rule.selector.tenant)
            response.confirmed_verifiers, response.stale_verifiers = receipt.confirmed, receipt.stale
        response.warnings.extend(await slips.in_selector(self.desk, selector))
        return response

    async def create_lock(self, operator: Principal, request: pb.CreateLockRequest) -> selector_pb2.Lock:
        """Set a lock."""
        selector = _own(operator, request.selector)
        reason = requests.text(request.reason, "reason", _LONGEST_REASON)
        made = await lock.lock(self.desk, operator, selector, reason, requests.lifetime(request, "lifetime"))
        answer = lock_to_wire(made)
        answer.warnings.extend(await slips.in_selector(self.desk, selector))
        return answer

    async def list_locks(self, operator: Principal, request: pb.ListLocksRequest) -> pb.ListLocksResponse:
        """List the locks in force."""
        now, page = self.desk.clock(), pages.page(request, usual=_LOCKS_PER_PAGE)
        active = await self.desk.database.read(lambda connection: locks.active(connection, now))
        mine = [found for found in active if operator.may_see(found.selector.tenant)]
        rest = [found for found in mine if page.position is None or found.index >= page.position]
        shown, following = page.of(rest[: page.size], lock_to_wire, lambda found: found.index + 1)
        return pb.ListLocksResponse(locks=shown, next_page_token=following)

    async def delete_lock(self, operator: Principal, request: pb.DeleteLockRequest) -> pb.DeleteLockResponse:
        """Lift a lock."""
        index = await lock.unlock(self.desk, operator, requests.required(request.lock_id, "lock_id"))
        return pb.DeleteLockResponse(index=index)


def _own(operator: Principal, message: selector_pb2.Selector) -> Selector:
    """Parse a selector, and refuse one that reaches beyond the operator's tenant."""
    selector = requests.selector(message, "selector")
    if not operator.may_see(selector.tenant):
        raise Refusal(
            Reason.TENANT_FORBIDDEN,
            f"`{operator.id}` is confined to the tenant `{operator.tenant}`",
            Hints(next=f"set selector.tenant to `{operator.tenant}`"),
        )
    return selector
