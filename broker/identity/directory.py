"""Which workload is what: rules from SPIFFE IDs to tenants and groups."""

from __future__ import annotations

import re
from dataclasses import dataclass

from broker.identity.spiffe import parse_spiffe_id
from broker.model.principal import Group

_ANY_BELOW = "/*"
_SERIAL = re.compile(r"[0-9a-f]{1,40}")


@dataclass(frozen=True, slots=True)
class Rule:
    """Gives a workload, or all below a path (`spiffe://example.org/agent/*`), a tenant and groups."""

    match: str
    tenant: str
    groups: frozenset[Group]

    def __post_init__(self) -> None:
        """Refuse a pattern that is neither a SPIFFE ID nor one with `/*` behind it."""
        parse_spiffe_id(self.match.removesuffix(_ANY_BELOW))

    def matches(self, spiffe_id: str) -> bool:
        """Tell whether it is about a workload."""
        if self.match.endswith(_ANY_BELOW):
            return spiffe_id.startswith(self.match[:-1])
        return spiffe_id == self.match


@dataclass(frozen=True, slots=True)
class Directory:
    """The rules, of which the first that matches holds; and who is refused whatever they say.

    `denied` holds what `parse_denied` gives.
    """

    rules: tuple[Rule, ...]
    denied: frozenset[str] = frozenset()

    def assign(self, spiffe_id: str) -> Rule | None:
        """Find the rule for a workload."""
        return next((rule for rule in self.rules if rule.matches(spiffe_id)), None)


def parse_denied(text: str) -> str:
    """Parse who is denied: a SPIFFE ID, or a certificate's serial number as any tool writes it, in hex.

    A serial comes back in lower case, without colons and leading zeros.

    Raises:
        ValueError: it is neither. A pattern is neither, and would deny nobody.
    """
    if text.startswith("spiffe:"):
        return str(parse_spiffe_id(text))
    serial = text.replace(":", "").lower().removeprefix("0x")
    if not _SERIAL.fullmatch(serial):
        raise ValueError(f"`{text}` is neither a SPIFFE ID nor a certificate's serial number in hex")
    return f"{int(serial, 16):x}"
