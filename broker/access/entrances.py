"""All ways in: one line for each RPC and each HTTP endpoint, and what it asks of whoever comes.

A way in without a line is served to nobody: a door looks its lines up when it is built, and where one is missing the
broker does not start. A test holds the lines against the descriptors and the routes, both ways.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Literal

from broker.model.errors import CannotStart, Hints, Reason, Refusal
from broker.model.principal import Principal, Role


class NoEntrance(CannotStart):
    """What a door is to serve has no line here, or another than it would need."""


class Tenancy(StrEnum):
    """What a caller reaches behind an entrance. The use cases hold to it."""

    OWN_TENANT = "what is of its own tenant; of every tenant, if its tenant is `*`"
    OWN_LEASES = "leases that it holds itself"
    OWN_RESOURCES = "tokens of its own tenant that are for resources of its own"
    OWN_SESSION = "the feed session that it has opened itself"
    OWN_TOKEN = "the lease of the token that it has"
    ALL_ALIKE = "what is the same for everybody"


@dataclass(frozen=True, slots=True)
class Entrance:
    """One way in.

    `path` is an RPC's full name, or an endpoint's path below the issuer. Who calls must have the role of `caller`, or
    is not asked who it is. Each refusal is logged; `recorded`: it is an entry of the ledger as well. With `proves_key`
    a proof of possession that comes with the call (RFC 9449) gives its caller a key; without, it is looked at only if
    the caller's own token is bound to one. `limit` names the quotas (`limits.*`) that it is held to.
    `rpc` is the RPC that an endpoint amounts to, by whose name the ledger and the log call both.
    """

    path: str
    caller: Role | Literal["anybody"]
    tenancy: Tenancy
    recorded: bool
    proves_key: bool
    limit: tuple[str, ...]
    rpc: str = ""

    @property
    def name(self) -> str:
        """What it is called in the ledger and the log."""
        return self.rpc or self.path.rpartition("/")[2]

    @property
    def has_right_of_way(self) -> bool:
        """Report whether its calls wait in a line of their own at the door, and not behind everybody else's.

        That is so for who takes away, for who must hear of it in time, and for who asks how the broker is.
        """
        return self.caller in (OPERATORS, VERIFIERS) or self.path in _ALSO_FIRST

    def admit(self, principal: Principal) -> None:
        """Refuse a caller that has not the role for which this is; the configuration calls roles groups.

        Raises:
            Refusal: GROUP_REQUIRED.
        """
        if self.caller != ANYBODY and self.caller not in principal.roles:
            raise Refusal(
                Reason.GROUP_REQUIRED,
                f"this is for the group `{self.caller}`, and `{principal.id}` is not in it",
                Hints(missing=f"group:{self.caller}", next="operators: see [[identity.rule]] in the configuration"),
            )


ANYBODY: Final = "anybody"
AGENTS, ORCHESTRATORS, OPERATORS, VERIFIERS, AUDITORS = Role
OWN_TENANT, OWN_LEASES, OWN_RESOURCES, OWN_SESSION, OWN_TOKEN, ALL_ALIKE = Tenancy
RECORDED, LOGGED = True, False
KEY_PROVEN, NO_KEY = True, False
LEASE_QUOTAS = ("leases_per_task", "leases_per_minute")
TASK_QUOTA = ("active_tasks",)
NO_LIMIT: tuple[str, ...] = ()
_ALSO_FIRST = (
    "/broker.v1.OrchestratorService/EndTask",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
)

_LINES = (
    Entrance("/broker.v1.AgentService/IssueCredential", AGENTS, OWN_TENANT, RECORDED, KEY_PROVEN, LEASE_QUOTAS),
    Entrance("/broker.v1.AgentService/RenewCredential", AGENTS, OWN_LEASES, RECORDED, NO_KEY, NO_LIMIT),
    Entrance("/broker.v1.AgentService/ReleaseCredential", AGENTS, OWN_LEASES, RECORDED, NO_KEY, NO_LIMIT),
    Entrance("/broker.v1.OrchestratorService/CreateTask", ORCHESTRATORS, OWN_TENANT, RECORDED, NO_KEY, TASK_QUOTA),
    Entrance("/broker.v1.OrchestratorService/GetTask", ORCHESTRATORS, OWN_TENANT, LOGGED, NO_KEY, NO_LIMIT),
    Entrance("/broker.v1.OrchestratorService/ListTasks", ORCHESTRATORS, OWN_TENANT, LOGGED, NO_KEY, NO_LIMIT),
    Entrance("/broker.v1.OrchestratorService/ExtendTask", ORCHESTRATORS, OWN_TENANT, RECORDED, NO_KEY, TASK_QUOTA),
    Entrance("/broker.v1.OrchestratorService/EndTask", ORCHESTRATORS, OWN_TENANT, RECORDED, NO_KEY, NO_LIMIT),
    Entrance("/broker.v1.OperatorService/ListLeases", OPERATORS, OWN_TENANT, LOGGED, NO_KEY, NO_LIMIT),
    Entrance("/broker.v1.OperatorService/GetLease", OPERATORS, OWN_TENANT, LOGGED, NO_KEY, NO_LIMIT),
    Entrance("/broker.v1.OperatorService/RevokeLeases", OPERATORS, OWN_TENANT, RECORDED, NO_KEY, NO_LIMIT),
    Entrance("/broker.v1.OperatorService/CreateLock", OPERATORS, OWN_TENANT, RECORDED, NO_KEY, NO_LIMIT),
    Entrance("/broker.v1.OperatorService/ListLocks", OPERATORS, OWN_TENANT, LOGGED, NO_KEY, NO_LIMIT),
    Entrance("/broker.v1.OperatorService/DeleteLock", OPERATORS, OWN_TENANT, RECORDED, NO_KEY, NO_LIMIT),
    Entrance("/broker.v1.VerifierService/GetKeySet", VERIFIERS, ALL_ALIKE, LOGGED, NO_KEY, NO_LIMIT),
    Entrance("/broker.v1.VerifierService/WatchRevocations", VERIFIERS, OWN_TENANT, LOGGED, NO_KEY, NO_LIMIT),
    Entrance("/broker.v1.VerifierService/FollowRevocations", VERIFIERS, OWN_TENANT, LOGGED, NO_KEY, NO_LIMIT),
    Entrance("/broker.v1.VerifierService/ConfirmRevocations", VERIFIERS, OWN_SESSION, LOGGED, NO_KEY, NO_LIMIT),
    Entrance("/broker.v1.VerifierService/IntrospectCredential", VERIFIERS, OWN_RESOURCES, LOGGED, NO_KEY, NO_LIMIT),
    Entrance("/broker.v1.AuditorService/GetCheckpoint", AUDITORS, ALL_ALIKE, LOGGED, NO_KEY, NO_LIMIT),
    Entrance("/broker.v1.AuditorService/ListEntries", AUDITORS, OWN_TENANT, LOGGED, NO_KEY, NO_LIMIT),
    Entrance("/broker.v1.AuditorService/GetInclusionProof", AUDITORS, ALL_ALIKE, LOGGED, NO_KEY, NO_LIMIT),
    Entrance("/broker.v1.AuditorService/GetConsistencyProof", AUDITORS, ALL_ALIKE, LOGGED, NO_KEY, NO_LIMIT),
    Entrance("/broker.v1.AuditorService/GetExplanation", AUDITORS, OWN_TENANT, LOGGED, NO_KEY, NO_LIMIT),
    Entrance("/grpc.health.v1.Health/Check", ANYBODY, ALL_ALIKE, LOGGED, NO_KEY, NO_LIMIT),
    Entrance("/grpc.health.v1.Health/Watch", ANYBODY, ALL_ALIKE, LOGGED, NO_KEY, NO_LIMIT),
    Entrance("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", ANYBODY, ALL_ALIKE, LOGGED, NO_KEY, NO_LIMIT),
    Entrance(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", ANYBODY, ALL_ALIKE, LOGGED, NO_KEY, NO_LIMIT
    ),
    Entrance("/token", AGENTS, OWN_TENANT, RECORDED, KEY_PROVEN, LEASE_QUOTAS, "IssueCredential"),
    Entrance("/introspect", VERIFIERS, OWN_RESOURCES, LOGGED, NO_KEY, NO_LIMIT, "IntrospectCredential"),
    Entrance("/revoke", ANYBODY, OWN_TOKEN, LOGGED, NO_KEY, NO_LIMIT),
    Entrance("/authorize", ANYBODY, ALL_ALIKE, LOGGED, NO_KEY, NO_LIMIT),
    Entrance("/jwks", ANYBODY, ALL_ALIKE, LOGGED, NO_KEY, NO_LIMIT),
    Entrance("/.well-known/oauth-authorization-server", ANYBODY, ALL_ALIKE, LOGGED, NO_KEY, NO_LIMIT),
    Entrance("/.well-known/openid-configuration", ANYBODY, ALL_ALIKE, LOGGED, NO_KEY, NO_LIMIT),
)

ENTRANCES: Mapping[str, Entrance] = MappingProxyType({line.path: line for line in _LINES})
"""By path."""


def entrance_of(path: str) -> Entrance:
    """Return the line of a way in, for the door that is to serve it.

    Raises:
        NoEntrance: it has none.
    """
    try:
        return ENTRANCES[path]
    except KeyError:
        raise NoEntrance(f"`{path}` has no line in broker/access/entrances.py, so it is served to nobody") from None


def open_entrance(path: str) -> Entrance:
    """Return the line of a way in that does not ask who calls.

    Raises:
        NoEntrance: it has none, or is not for anybody.
    """
    entrance = entrance_of(path)
    if entrance.caller != ANYBODY:
        raise NoEntrance(f"`{path}` is for {entrance.caller} by its line in broker/access/entrances.py")
    return entrance
