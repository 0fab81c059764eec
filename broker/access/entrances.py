"""What each RPC needs: one table that fails closed. A test holds it against the descriptors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from broker.model.principal import Group


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """Who may call, whether a refusal is recorded in the ledger, and whether a DPoP proof is taken.

    Refusals of calls that would change something are recorded.
    """

    group: Group
    recorded: bool
    proof: bool = False


_CHANGES = {
    Group.AGENTS: ("AgentService", ("IssueCredential", "RenewCredential", "ReleaseCredential")),
    Group.ORCHESTRATORS: ("OrchestratorService", ("CreateTask", "ExtendTask", "EndTask")),
    Group.OPERATORS: ("OperatorService", ("RevokeLeases", "CreateLock", "DeleteLock")),
}
_LOOKS = {
    Group.ORCHESTRATORS: ("OrchestratorService", ("GetTask", "ListTasks")),
    Group.OPERATORS: ("OperatorService", ("ListLeases", "GetLease", "ListLocks")),
    Group.VERIFIERS: (
        "VerifierService",
        ("GetKeySet", "WatchRevocations", "ConfirmRevocations", "IntrospectCredential"),
    ),
    Group.AUDITORS: (
        "AuditorService",
        ("GetCheckpoint", "ListEntries", "GetInclusionProof", "GetConsistencyProof"),
    ),
}

_WITH_PROOF = frozenset({"IssueCredential"})

METHODS: Mapping[str, Method] = {
    f"/broker.v1.{service}/{name}": Method(group=group, recorded=recorded, proof=name in _WITH_PROOF)
    for table, recorded in ((_CHANGES, True), (_LOOKS, False))
    for group, (service, names) in table.items()
    for name in names
}
"""By full method name. A method without a row cannot be served."""
