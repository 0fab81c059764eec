"""The demo's MCP client: the one of package `mcp` as it is, with its own OAuth. It knows no broker.

It proves who it is by a JWT-SVID, which a SPIFFE agent would keep fresh in a file. Where to show it the client finds
out by itself: the MCP server names the broker, and the broker its token endpoint.

python -m broker.cli.demo.mcp_agent URL ISSUER JWT_SVID_FILE ROOTS_FILE
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import httpx2
from mcp import Client, MCPError
from mcp.client.auth import OAuthTokenError
from mcp.client.auth.extensions.client_credentials import PrivateKeyJWTOAuthProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken

from broker.cli.demo.lines import converse
from broker.model.errors import Reason, Refusal

T = TypeVar("T")


class Memory:
    """Keeps the client's token while the process lives (`mcp.client.auth.TokenStorage`)."""

    def __init__(self) -> None:
        """Begin without one."""
        self._token: OAuthToken | None = None

    async def get_tokens(self) -> OAuthToken | None:
        """Return the token."""
        return self._token

    async def set_tokens(self, tokens: OAuthToken) -> None:
        """Keep a token."""
        self._token = tokens

    async def get_client_info(self) -> None:
        """Return nothing: who the client is says its SVID."""

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        """Keep nothing."""


class McpAgent:
    """Opens a session for each thing to do, as the client ends one in which it could get no credential."""

    def __init__(self, url: str, http: httpx2.AsyncClient) -> None:
        """Make one that works with the server at a URL."""
        self._url = url
        self._http = http

    async def list_tools(self) -> list[str]:
        """Return the names of the tools that the server shows."""

        async def names(client: Client) -> list[str]:
            return [tool.name for tool in (await client.list_tools()).tools]

        return await self._in_session(names)

    async def call(self, tool: str, arguments: dict[str, object]) -> object:
        """Call a tool."""

        async def result(client: Client) -> object:
            return ((await client.call_tool(tool, arguments)).structured_content or {})["result"]

        return await self._in_session(result)

    async def _in_session(self, do: Callable[[Client], Awaitable[T]]) -> T:
        try:
            async with Client(streamable_http_client(self._url, http_client=self._http)) as client:
                return await do(client)
        except ExceptionGroup as errors:
            raise refusal(errors) from None


def refusal(error: Exception) -> Refusal:
    """Read what a model would be told: by the guard in a JSON-RPC error, by the broker in one of OAuth.

    Raises:
        Exception: the error, if it is no refusal.
    """
    first = error
    while isinstance(first, ExceptionGroup):
        first = first.exceptions[0]
    if isinstance(first, MCPError) and first.error.data:
        return Refusal(Reason(first.error.data["reason"]), first.error.message)
    if isinstance(first, OAuthTokenError):
        _, brace, rest = str(first).partition("{")
        answer = json.loads(brace + rest)
        return Refusal(Reason(answer["reason"]), answer["error_description"])
    raise error


async def main(url: str, issuer: str, jwt_svid: str, roots: str) -> None:
    """Do what the demo asks."""

    async def proof(_audience: str) -> str:
        return await asyncio.to_thread(Path(jwt_svid).read_text, "ascii")

    auth = PrivateKeyJWTOAuthProvider(url, Memory(), client_id="researcher", assertion_provider=proof, issuer=issuer)
    async with httpx2.AsyncClient(auth=auth, verify=ssl.create_default_context(cafile=roots), trust_env=False) as http:
        agent = McpAgent(url, http)
        await converse({"list_tools": agent.list_tools, "call": agent.call})


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
