"""OperatorService: emergency and everyday control."""

from __future__ import annotations

from dataclasses import dataclass

from broker.api import closings, pages, requests
from broker.lease import lock as locks
from broker.lease import revoke, slips, views
from broker.lease.desk import Desk
from broker.lease.revoke import LockRequest
from broker.model.principal import Principal
from broker.revocation.feed import Feed
from broker.revocation.unrecorded import revoke_or_stop
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
        selector = requests.selector(request.selector, "selector") if request.HasField("selector") else None
        now, page = self.desk.clock(), pages.page(request)
        live_at = now if request.live_only else None
        leases = await views.leases(self.desk, operator, selector, live_at, page.position, page.size)
        sent, following = page.of(leases, lambda lease: lease_to_wire(lease, now), lambda lease: lease.index)
        return pb.ListLeasesResponse(leases=sent, next_page_token=following)

    async def get_lease(self, operator: Principal, request: pb.GetLeaseRequest) -> lease_pb2.Lease:
        """Show a lease."""
        lease = await views.lease(self.desk, operator, requests.required(request.lease_id, "lease_id"))
        return lease_to_wire(lease, self.desk.clock())

    async def revoke_leases(self, operator: Principal, request: pb.RevokeLeasesRequest) -> pb.RevokeLeasesResponse:
        """Revoke by selector, or say what that would hit."""
        selector = requests.selector(request.selector, "selector")
        if request.dry_run:
            hit = await revoke.preview(self.desk, operator, selector)
            now = self.desk.clock()
            return pb.RevokeLeasesResponse(
                live_leases=hit.live_leases,
                sample=[lease_to_wire(lease, now) for lease in hit.sample],
                warnings=await slips.in_selector(self.desk, operator, selector),
            )
        within = closings.within(request)
        rule, lock = await revoke_or_stop(
            self.desk,
            self.feed,
            operator,
            selector,
            requests.text(request.reason, "reason", _LONGEST_REASON),
            LockRequest(lifetime=requests.lifetime(request, "lock_lifetime")) if request.lock else None,
            stop_freshness=request.or_stop_freshness,
        )
        response = pb.RevokeLeasesResponse(rule=rule_to_wire(rule), lock=None if lock is None else lock_to_wire(lock))
        if request.barrier:
            closing = await self.feed.barrier(rule.index, rule.selector.tenant, within)
            response.confirmed_verifiers, response.stale_verifiers = closing.confirmed, closing.stale
            response.closing.CopyFrom(closings.closing_to_wire(closing, operator, self.desk.clock()))
        response.warnings.extend(await slips.in_selector(self.desk, operator, selector))
        return response

    async def create_lock(self, operator: Principal, request: pb.CreateLockRequest) -> selector_pb2.Lock:
        """Set a lock."""
        selector = requests.selector(request.selector, "selector")
        reason = requests.text(request.reason, "reason", _LONGEST_REASON)
        lock = await locks.lock(self.desk, operator, selector, reason, requests.lifetime(request, "lifetime"))
        answer = lock_to_wire(lock)
        answer.warnings.extend(await slips.in_selector(self.desk, operator, selector))
        return answer

    async def list_locks(self, operator: Principal, request: pb.ListLocksRequest) -> pb.ListLocksResponse:
        """List the locks in force."""
        page = pages.page(request, usual=_LOCKS_PER_PAGE)
        active = await views.active_locks(self.desk, operator, page.position, page.size)
        sent, following = page.of(active, lock_to_wire, lambda lock: lock.index + 1)
        return pb.ListLocksResponse(locks=sent, next_page_token=following)

    async def delete_lock(self, operator: Principal, request: pb.DeleteLockRequest) -> pb.DeleteLockResponse:
        """Lift a lock."""
        index = await locks.unlock(self.desk, operator, requests.required(request.lock_id, "lock_id"))
        return pb.DeleteLockResponse(index=index)
