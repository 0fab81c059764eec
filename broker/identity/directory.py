"""Which workload is what: rules from the ids of principals to tenants, roles and resources."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from broker.identity.ids import SCHEMES, check_id, check_pattern
from broker.model.compact_jws import base64url
from broker.model.errors import Hints, Reason, Refusal
from broker.model.principal import Principal, Role

_SERIAL = re.compile(r"[0-9a-f]{1,40}")


@dataclass(frozen=True, slots=True)
class IdentityRule:
    """What gives principals a tenant and roles; verifiers also the resources that are theirs, for introspection.

    `match` is an id, or all that go on behind a `/` or `:` in it: `spiffe://example.org/agent/*`,
    `oidc:cluster:system:serviceaccount:agents:*`.
    """

    match: str
    tenant: str
    roles: frozenset[Role]
    resources: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Refuse a pattern that is neither an id nor one with `/*` or `:*` behind it."""
        check_pattern(self.match)

    def matches(self, principal_id: str) -> bool:
        """Report whether it is about a principal."""
        if self.match.endswith("*"):
            return principal_id.startswith(self.match[:-1])
        return principal_id == self.match


@dataclass(frozen=True, slots=True)
class Directory:
    """The rules, of which the first that matches holds; and who is refused whatever they say.

    `denied` holds what `parse_denied` gives.
    """

    rules: tuple[IdentityRule, ...]
    denied: frozenset[str] = frozenset()

    def assign(self, principal_id: str) -> IdentityRule | None:
        """Find the rule about a principal."""
        return next((rule for rule in self.rules if rule.matches(principal_id)), None)

    def identify(
        self, principal_id: str, *, method: str, proof: bytes, not_after: datetime, serial: str = "", task_id: str = ""
    ) -> Principal:
        """Make a principal of an id that was proven.

        `proof` is the SHA-256 of the evidence; `serial` is that of the certificate, if the evidence is one.

        Raises:
            Refusal: IDENTITY_INVALID, if it is denied; IDENTITY_UNKNOWN, if no rule is about it.
        """
        if principal_id in self.denied or serial in self.denied:
            raise Refusal(
                Reason.IDENTITY_INVALID,
                f"`{principal_id}` is denied by the configuration",
                Hints(next="operators: see identity.denied in the configuration"),
            )
        rule = self.assign(principal_id)
        if rule is None:
            raise Refusal(
                Reason.IDENTITY_UNKNOWN,
                f"no rule knows the workload `{principal_id}`",
                Hints(next="operators: add an [[identity.rule]] that matches it"),
            )
        return Principal(
            id=principal_id,
            tenant=rule.tenant,
            roles=rule.roles,
            resources=rule.resources,
            method=method,
            proof=proof.hex(),
            not_after=not_after,
            certificate=base64url(proof) if serial else "",
            task_id=task_id,
        )


def parse_denied(text: str) -> str:
    """Parse who is denied: a principal's id, or a certificate's serial number as any tool writes it, in hex.

    A serial comes back in lower case, without colons and leading zeros.

    Raises:
        ValueError: it is neither. A pattern is neither, and would deny nobody.
    """
    if text.startswith(SCHEMES):
        return check_id(text)
    serial = text.replace(":", "").lower().removeprefix("0x")
    if not _SERIAL.fullmatch(serial):
        raise ValueError(f"`{text}` is neither the id of a principal nor a certificate's serial number in hex")
    return f"{int(serial, 16):x}"
