"""Servers of the same tools: made with `mcp` 2.x or FastMCP, guarded from the front or from inside."""

from __future__ import annotations

from collections.abc import Collection

from fastmcp import FastMCP
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.resources import TextResource
from pydantic import AnyHttpUrl

from broker.sdk.guard.http_request import App
from broker.sdk.guard.mcp.fastmcp import FastMcpGuard, FastMcpTokenVerifier
from broker.sdk.guard.mcp.http import McpGuard
from broker.sdk.guard.mcp.server import McpServerGuard
from broker.sdk.guard.mcp.token_verifier import BrokerTokenVerifier
from tests.mcp.notes import Notes
from tests.support.credentials import BROKER

Also = Collection[str]
SECRET = "the resource that no tool gives"


def server(notes: Notes, **how: object) -> MCPServer:
    made = MCPServer("notes", **how)  # type: ignore[arg-type]
    for tool in notes.tools():
        made.add_tool(tool)
    made.add_resource(TextResource(uri="notes://secret", text=SECRET, name="secret"))
    return made


def guard(notes: Notes, app: App, also: Also = ()) -> McpGuard:
    return McpGuard(app, notes.verifier, authorization_servers=[BROKER], also=also)


def behind_the_guard(notes: Notes, also: Also = ()) -> App:
    return guard(notes, server(notes).streamable_http_app(), also)


def behind_the_guard_with_json(notes: Notes, also: Also = ()) -> App:
    return guard(notes, server(notes).streamable_http_app(json_response=True), also)


def with_middleware(notes: Notes, also: Also = ()) -> App:
    settings = AuthSettings(
        issuer_url=AnyHttpUrl(BROKER), resource_server_url=AnyHttpUrl(notes.url), validate_token_resource=True
    )
    return server(
        notes,
        auth=settings,
        token_verifier=BrokerTokenVerifier(notes.verifier),
        middleware=[McpServerGuard(notes.verifier, also=also)],
    ).streamable_http_app()


def fastmcp(notes: Notes, **how: object) -> FastMCP:
    made = FastMCP("notes", **how)  # type: ignore[arg-type]
    for tool in notes.tools():
        made.tool(tool)
    made.resource("notes://secret")(lambda: SECRET)
    return made


def fastmcp_with_middleware(notes: Notes, also: Also = ()) -> App:
    middleware = FastMcpGuard(notes.verifier, also=also)
    return fastmcp(notes, auth=FastMcpTokenVerifier(notes.verifier), middleware=[middleware]).http_app()


def fastmcp_behind_the_guard(notes: Notes, also: Also = ()) -> App:
    return guard(notes, fastmcp(notes).http_app(), also)


ALL = (
    behind_the_guard,
    behind_the_guard_with_json,
    with_middleware,
    fastmcp_with_middleware,
    fastmcp_behind_the_guard,
)
