"""What each RPC needs: one table that fails closed. A test holds it against the descriptors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from broker.model.principal import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """Who may call, whether a refusal is recorded in the ledger, and whether a DPoP proof is taken.

    Refusals of calls that would change something are recorded.
    """

    role: Role
    recorded: bool
    proof: bool = False


_CHANGES = {
    Role.AGENTS: ("AgentService", ("IssueCredential", "RenewCredential", "ReleaseCredential")),
    Role.ORCHESTRATORS: ("OrchestratorService", ("CreateTask", "ExtendTask", "EndTask")),
    Role.OPERATORS: ("OperatorService", ("RevokeLeases", "CreateLock", "DeleteLock")),
}
_LOOKS = {
    Role.ORCHESTRATORS: ("OrchestratorService", ("GetTask", "ListTasks")),
    Role.OPERATORS: ("OperatorService", ("ListLeases", "GetLease", "ListLocks")),
    Role.VERIFIERS: (
        "VerifierService",
        ("GetKeySet", "WatchRevocations", "ConfirmRevocations", "IntrospectCredential"),
    ),
    Role.AUDITORS: (
        "AuditorService",
        ("GetCheckpoint", "ListEntries", "GetInclusionProof", "GetConsistencyProof"),
    ),
}

_WITH_PROOF = frozenset({"IssueCredential"})

METHODS: Mapping[str, Method] = {
    f"/broker.v1.{service}/{name}": Method(role=role, recorded=recorded, proof=name in _WITH_PROOF)
    for table, recorded in ((_CHANGES, True), (_LOOKS, False))
    for role, (service, names) in table.items()
    for name in names
}
"""By full method name. A method without a row cannot be served."""
