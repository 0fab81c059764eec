"""For other people's processes: a client for agents and orchestrators; a verifier and guards for tool servers.

An agent calls a tool, and the tool's server checks the call::

    from broker.sdk import Client, Endpoint, Grant, HttpGuard, Verifier, watching

    async with Client() as client:  # where the broker is and who we are is in the environment
        async with client.credential(task_id, "https://notes.example", [Grant("search_notes")]) as credential:
            await http.post(url, json=arguments, headers=credential.headers("POST", url))

    async with watching(Verifier("https://notes.example"), Endpoint.of()) as verifier:
        await serve(HttpGuard(app, verifier, lambda scope, body: ("search_notes", body)))

What is in `__all__` is promised, and nothing below; docs/reference/sdk.md has a line for each name. Names are imported
when they are first asked for, so that a tool server does not load the client. Needs grpcio, protobuf and cryptography.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__all__ = [
    "Client",
    "Constraint",
    "Declaration",
    "EcSigner",
    "Endpoint",
    "Environment",
    "Grant",
    "GrpcGuard",
    "HttpGuard",
    "McpGuard",
    "Operator",
    "Reason",
    "Refusal",
    "ResourceGrants",
    "SyncClient",
    "SyncGrpcGuard",
    "TokenFile",
    "Verifier",
    "WorkloadSocket",
    "watching",
]

if TYPE_CHECKING:  # the same for mypy, which checks that nothing of `__all__` is missing
    from broker.credential.keys import EcSigner
    from broker.model.errors import Reason, Refusal
    from broker.model.grant import Constraint, Grant, Operator, ResourceGrants
    from broker.model.task import Declaration, Environment
    from broker.sdk.client.client import Client
    from broker.sdk.client.sync import SyncClient
    from broker.sdk.connect.endpoint import Endpoint
    from broker.sdk.connect.identity import WorkloadSocket
    from broker.sdk.connect.token_file import TokenFile
    from broker.sdk.guard.grpc import GrpcGuard, SyncGrpcGuard
    from broker.sdk.guard.http import HttpGuard
    from broker.sdk.guard.mcp.http import McpGuard
    from broker.sdk.verify.verifier import Verifier
    from broker.sdk.verify.watching import watching
else:
    _HOMES = {
        "broker.credential.keys": ("EcSigner",),
        "broker.model.errors": ("Reason", "Refusal"),
        "broker.model.grant": ("Constraint", "Grant", "Operator", "ResourceGrants"),
        "broker.model.task": ("Declaration", "Environment"),
        "broker.sdk.client.client": ("Client",),
        "broker.sdk.client.sync": ("SyncClient",),
        "broker.sdk.connect.endpoint": ("Endpoint",),
        "broker.sdk.connect.identity": ("WorkloadSocket",),
        "broker.sdk.connect.token_file": ("TokenFile",),
        "broker.sdk.guard.grpc": ("GrpcGuard", "SyncGrpcGuard"),
        "broker.sdk.guard.http": ("HttpGuard",),
        "broker.sdk.guard.mcp.http": ("McpGuard",),
        "broker.sdk.verify.verifier": ("Verifier",),
        "broker.sdk.verify.watching": ("watching",),
    }
    _HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

    def __getattr__(name: str) -> object:
        """Import a name from its home (PEP 562)."""
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
        found = globals()[name] = getattr(import_module(_HOME_OF[name]), name)
        return found

    def __dir__() -> list[str]:
        """List what is promised."""
        return __all__
