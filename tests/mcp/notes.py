"""A guarded MCP server on a real socket, the tokens for it, and what reached its tools."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import uvicorn

from broker.credential import jose
from broker.credential.keys import EcSigner
from broker.model.grant import Constraint, Grant, Operator
from broker.model.lease import Binding
from broker.model.selector import Cause, RevocationRule, Selector, Target
from broker.sdk.guard.http_request import App
from broker.sdk.verify.verifier import Verifier
from broker.system import system_clock
from tests.support.credentials import believing, good_now

GRANTS = (Grant("search_notes", (Constraint("/limit", Operator.RANGE, (1, 50)),)), Grant("add_note"))


@dataclass
class Notes:
    """One server's resource: its verifier, which hears of no broker, and the signer that it trusts."""

    port: int
    signer: EcSigner = field(default_factory=EcSigner.generate)
    reached: list[tuple[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        self.verifier = believing(self.signer, Verifier(self.url))

    def token(self, **changes: Any) -> str:
        return jose.encode(replace(good_now(self.url, GRANTS, Binding.BEARER), **changes), self.signer)

    def expired(self) -> str:
        now = system_clock().replace(microsecond=0)
        return self.token(issued_at=now - timedelta(minutes=5), expires_at=now - timedelta(seconds=1))

    def revoke(self) -> None:
        """Revoke all that was issued so far."""
        now = system_clock()
        rule = RevocationRule(
            index=11,
            selector=Selector("acme", Target.ALL),
            cause=Cause.OPERATOR,
            recorded_at=now,
            relevant_until=now + timedelta(hours=1),
        )
        self.verifier.revocations.apply([rule])

    # The tools, whatever the server is made with.
    def search_notes(self, limit: int = 5) -> str:
        """Search."""
        self.reached.append(("search_notes", limit))
        return f"{limit} notes"

    def add_note(self, text: str) -> str:
        """Add."""
        self.reached.append(("add_note", text))
        return "added"

    def delete_notes(self) -> str:
        """Delete all."""
        self.reached.append(("delete_notes", None))
        return "deleted"

    def tools(self) -> tuple[Callable[..., str], ...]:
        return (self.search_notes, self.add_note, self.delete_notes)


@asynccontextmanager
async def listening(make: Callable[[Notes], App]) -> AsyncIterator[Notes]:
    """Serve an application on a real socket."""
    listener = socket.create_server(("127.0.0.1", 0))
    notes = Notes(listener.getsockname()[1])
    server = uvicorn.Server(
        uvicorn.Config(make(notes), log_config=None, lifespan="on", ws="none", timeout_graceful_shutdown=1)
    )
    task = asyncio.create_task(server.serve([listener]))
    while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0.01)
    try:
        yield notes
    finally:
        server.should_exit = True
        await task
        listener.close()
