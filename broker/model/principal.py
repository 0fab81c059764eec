"""Who calls: a workload or person whose proof has been checked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

ANY_TENANT = "*"
"""The tenant of those who serve all tenants: whole-broker operators, auditors and shared verifiers."""


class Role(StrEnum):
    """The audiences of the API. A principal may have several; the configuration calls them groups."""

    AGENTS = "agents"
    ORCHESTRATORS = "orchestrators"
    OPERATORS = "operators"
    VERIFIERS = "verifiers"
    AUDITORS = "auditors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Once:
    """Evidence that is good for one time: what it is remembered by, when it was made, and until when it would be good.

    `name` has at most 128 characters.
    """

    name: str
    issued_at: datetime
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A proven caller. Only `broker.identity` makes one.

    `id` is a SPIFFE ID, or `oidc:ISSUER:SUBJECT`; `method` names the kind of proof; `proof` is the SHA-256 of the
    evidence, in hex; `not_after` is when the evidence itself expires. `resources` are those that are a verifier's own.
    `certificate` is the SHA-256, in base64url, of the certificate that was shown; empty, if it was another proof.
    `proof_key` is the thumbprint (RFC 7638) of a key that the caller has proven to hold on this call; empty, if none.
    `spends` is the proof of that: whatever the call gets, nothing else is got with it.
    `task_id` is the one task that the evidence is good for; empty, if it names none.
    """

    id: str
    tenant: str
    roles: frozenset[Role]
    method: str
    proof: str
    not_after: datetime
    resources: frozenset[str] = frozenset()
    certificate: str = ""
    proof_key: str = ""
    spends: Once | None = None
    task_id: str = ""

    @property
    def confined_to(self) -> str | None:
        """The one tenant that this principal may see; None: it may see all."""
        return None if self.tenant == ANY_TENANT else self.tenant

    def may_see(self, tenant: str) -> bool:
        """Report whether this principal may see or touch what belongs to `tenant`."""
        return self.tenant in (tenant, ANY_TENANT)
