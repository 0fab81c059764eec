"""What is left to do when a revocation cannot be recorded: to keep nobody fresh whom it concerns.

An operator asks for it with the revocation, since who knows whether a token has leaked is the operator.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from broker.lease import revoke
from broker.lease.desk import Desk
from broker.lease.revoke import LockRequest
from broker.model.errors import Hints, Reason, Refusal
from broker.model.principal import ANY_TENANT, Principal
from broker.model.selector import Lock, RevocationRule, Selector
from broker.revocation.feed import FRESHNESS, Feed


async def revoke_or_stop(
    desk: Desk,
    feed: Feed,
    operator: Principal,
    selector: Selector,
    reason: str,
    lock: LockRequest | None,
    *,
    stop_freshness: bool,
) -> tuple[RevocationRule, Lock | None]:
    """Revoke what a selector covers; if that cannot be recorded and `stop_freshness` is set, keep nobody fresh.

    Raises:
        Refusal: TENANT_FORBIDDEN; LEDGER_UNAVAILABLE, which says what was done instead, or what can be.
    """
    try:
        return await revoke.revoke(desk, operator, selector, reason, lock)
    except Refusal as refusal:
        if refusal.reason is not Reason.LEDGER_UNAVAILABLE:
            raise
        raise _unrecorded(feed, selector, refusal, stop_freshness=stop_freshness) from refusal


def _unrecorded(feed: Feed, selector: Selector, refusal: Refusal, *, stop_freshness: bool) -> Refusal:
    if not stop_freshness:
        following = f"{refusal.hints.next}; if it cannot wait, ask for or_stop_freshness (revoke --or-stop-freshness)"
        return replace(refusal, hints=replace(refusal.hints, next=following))
    feed.withhold(selector)
    whose = "" if selector.tenant == ANY_TENANT else f" of `{selector.tenant}`"
    bound = f"in {FRESHNESS // timedelta(seconds=1)} seconds no verifier{whose} that listens here accepts anything"
    following = "ask every other broker as well; when the ledger can be written, revoke again, which starts them"
    return replace(refusal, message=f"{refusal.message}; {bound}", hints=Hints(next=following))
