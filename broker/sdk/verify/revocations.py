"""What a verifier knows of revocations: for each selector, the newest rule. A million dead leases are one row."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from broker.credential.claims import Claims
from broker.model.selector import RevocationRule, Selector


class Revocations:
    """The rules that still matter. `version` grows with every change, so that who has looked can tell to look again.

    One thread changes them; others may ask meanwhile, and find the state before or after a change.
    """

    def __init__(self) -> None:
        """Know of none."""
        self.version = 0
        self._newest: dict[Selector, RevocationRule] = {}

    def apply(self, rules: Iterable[RevocationRule]) -> None:
        """Add rules. Applying one twice changes nothing."""
        _add(self._newest, rules)
        self.version += 1

    def replace(self, rules: Iterable[RevocationRule]) -> None:
        """Forget all rules, and begin with these: the tokens that forgotten ones covered have expired by themselves."""
        newest: dict[Selector, RevocationRule] = {}
        _add(newest, rules)
        self._newest = newest  # in one step: nobody may see it half full
        self.version += 1

    def forget(self, at: datetime) -> None:
        """Drop the rules that cover nothing unexpired any more."""
        done = [selector for selector, rule in self._newest.items() if rule.relevant_until <= at]
        for selector in done:
            del self._newest[selector]

    def ended_by(self, claims: Claims) -> RevocationRule | None:
        """Find a rule that covers the lease of a token."""
        newest = self._newest
        if not newest:
            return None
        rules = (newest.get(selector) for selector in claims.selectors())
        return next((rule for rule in rules if rule is not None and rule.index > claims.index), None)


def _add(newest: dict[Selector, RevocationRule], rules: Iterable[RevocationRule]) -> None:
    for rule in rules:
        known = newest.get(rule.selector)
        if known is None or rule.index > known.index:
            newest[rule.selector] = rule
