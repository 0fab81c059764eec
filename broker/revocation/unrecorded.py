"""What is left to do when a revocation cannot be recorded: to keep nobody fresh whom it concerns.

An operator asks for it with the revocation, since who knows whether a token has leaked is the operator.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from broker.model.errors import Hints, Refusal
from broker.model.principal import ANY_TENANT
from broker.model.selector import Selector
from broker.revocation.feed import FRESHNESS, Feed


def unrecorded(feed: Feed, selector: Selector, refusal: Refusal, *, stop_freshness: bool) -> Refusal:
    """Do what can be done without the ledger, if that is wanted; return what the operator is told."""
    if not stop_freshness:
        following = f"{refusal.hints.next}; if it cannot wait, ask for or_stop_freshness (revoke --or-stop-freshness)"
        return replace(refusal, hints=replace(refusal.hints, next=following))
    feed.withhold(selector)
    whose = "" if selector.tenant == ANY_TENANT else f" of `{selector.tenant}`"
    bound = f"in {FRESHNESS // timedelta(seconds=1)} seconds no verifier{whose} that listens here accepts anything"
    following = "ask every other broker as well; when the ledger can be written, revoke again, which starts them"
    return replace(refusal, message=f"{refusal.message}; {bound}", hints=Hints(next=following))
