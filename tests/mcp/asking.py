"""Requests to the guarded server, made by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from tests.mcp import servers
from tests.mcp.notes import Notes, listening

JSON = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}},
}


def message(tool: str = "search_notes", /, **arguments: object) -> dict[str, Any]:
    """Return a call of a tool."""
    params = {"name": tool, "arguments": arguments or {"limit": 1}}
    return {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}


@asynccontextmanager
async def asking(
    make: Any = servers.behind_the_guard, **headers: str
) -> AsyncIterator[tuple[Notes, httpx2.AsyncClient]]:
    """Serve a guarded server, and connect to it with a good token, unless the headers have another."""
    async with (
        listening(make) as notes,
        httpx2.AsyncClient(headers={**JSON, **headers}, trust_env=False, timeout=60) as http,
    ):
        if "authorization" not in headers:
            http.headers["authorization"] = f"Bearer {notes.token()}"
        yield notes, http
