"""The MCP server of the demo, made with package `mcp` as if there were no broker.

python -m broker.cli.demo.mcp_notes URL ISSUER
"""

from __future__ import annotations

import asyncio
import sys

from mcp.server.mcpserver import MCPServer

from broker.cli.demo.guarded import serve


def make() -> MCPServer:
    """Make the server."""
    notes = MCPServer("notes")

    @notes.tool()
    def search_notes(about: str, limit: int = 10) -> str:
        """Search the notes."""
        return f"{limit} notes on {about}"

    @notes.tool()
    def add_note(text: str) -> str:
        """Add a note."""
        return f"noted: {text}"

    @notes.tool()
    def delete_notes() -> str:
        """Delete all notes."""
        return "there are no notes any more"

    return notes


if __name__ == "__main__":
    asyncio.run(serve(make().streamable_http_app(), *sys.argv[1:]))
