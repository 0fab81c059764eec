"""The MCP server of the demo: a plain server made with package `mcp`, behind the gate, over TLS.

python -m broker.cli.demo.mcp_notes URL ISSUER
"""

from __future__ import annotations

import asyncio
import sys
from urllib.parse import urlsplit

import uvicorn
from mcp.server.mcpserver import MCPServer

from broker.cli.demo.lines import converse
from broker.sdk.connection import Endpoint
from broker.sdk.feed import watching
from broker.sdk.mcp.gate import McpGate
from broker.sdk.verifier import Verifier


def _search_notes(about: str, limit: int = 10) -> str:
    """Search the notes."""
    return f"{limit} notes on {about}"


def _add_note(text: str) -> str:
    """Add a note."""
    return f"noted: {text}"


def _delete_notes() -> str:
    """Delete all notes."""
    return "there are no notes any more"


async def main(url: str, issuer: str) -> None:
    """Serve at a URL until the demo is over; the broker and the SVID come from the environment."""
    endpoint, parts = Endpoint.of(), urlsplit(url)
    notes = MCPServer("notes")
    for tool in (_search_notes, _add_note, _delete_notes):
        notes.add_tool(tool, name=tool.__name__.strip("_"))
    app = notes.streamable_http_app(streamable_http_path=parts.path)
    async with watching(Verifier(url), endpoint) as verifier:
        server = uvicorn.Server(
            uvicorn.Config(
                McpGate(app, verifier, authorization_servers=[issuer]),
                port=parts.port or 443,
                ssl_certfile=endpoint.svid_dir / "svid.pem",
                ssl_keyfile=endpoint.svid_dir / "key.pem",
                log_level="warning",
            )
        )
        serving = asyncio.create_task(server.serve())
        while not (server.started or serving.done()):  # noqa: ASYNC110 (uvicorn has no event for it)
            await asyncio.sleep(0.01)
        await converse({})
        server.should_exit = True
        await serving


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
