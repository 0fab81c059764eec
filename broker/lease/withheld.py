"""What was to be revoked and could not be recorded, and so whom a broker keeps fresh no more.

An operator asks for it (`or_stop_freshness`), because it cannot wait until the ledger can be written: then no verifier
of the tenant accepts anything, once its window is over, until a rule says what was to be said.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from broker.model.errors import Hints, Reason, Refusal
from broker.model.principal import ANY_TENANT
from broker.model.selector import Selector, Target


@dataclass(frozen=True, slots=True)
class Withheld:
    """The selectors that wait for their rule, in memory alone."""

    _selectors: set[Selector] = field(default_factory=set)

    def add(self, selector: Selector) -> None:
        """Keep its tenant's verifiers fresh no more."""
        self._selectors.add(selector)

    def settle(self, recorded: Selector) -> None:
        """Take note of a rule: whatever it says as well waits no longer."""
        self._selectors.difference_update([waiting for waiting in self._selectors if _covers(recorded, waiting)])

    def waiting(self) -> frozenset[Selector]:
        """Return the selectors that wait."""
        return frozenset(self._selectors)

    def concerns(self, tenant: str) -> bool:
        """Report whether a verifier of a tenant, or of any, could accept something that waits."""
        return any(tenant == ANY_TENANT or waiting.tenant in (tenant, ANY_TENANT) for waiting in self._selectors)

    def check(self, tenant: str) -> None:
        """Refuse to vouch for anything to a verifier of a tenant, if it is not to be kept fresh.

        Raises:
            Refusal: UNAVAILABLE.
        """
        if self.concerns(tenant):
            raise Refusal(
                Reason.UNAVAILABLE,
                "an operator has stopped freshness: something was to be revoked that could not be recorded",
                Hints(next="operators: see that the ledger can be written, and revoke it again"),
            )


def _covers(recorded: Selector, waiting: Selector) -> bool:
    if recorded.target is Target.ALL:
        return recorded.tenant in (waiting.tenant, ANY_TENANT)
    return recorded == waiting
