"""The client of FastMCP, with the OAuth of `mcp`. Arguments: URL ISSUER JWT_SVID_FILE ROOTS_FILE."""

from __future__ import annotations

import asyncio
import ssl
import sys
from pathlib import Path
from typing import Any

from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from mcp import MCPError
from mcp.client.auth import OAuthTokenError
from mcp.client.auth.extensions.client_credentials import PrivateKeyJWTOAuthProvider

from broker.cli.demo.lines import converse
from broker.cli.demo.mcp_agent import Memory, refusal


async def main(url: str, issuer: str, jwt_svid: str, roots: str) -> None:
    async def proof(_audience: str) -> str:
        return Path(jwt_svid).read_text()

    auth = PrivateKeyJWTOAuthProvider(url, Memory(), client_id="researcher", assertion_provider=proof, issuer=issuer)

    def client() -> Client[Any]:
        return Client(StreamableHttpTransport(url, auth=auth, verify=ssl.create_default_context(cafile=roots)))

    async def list_tools() -> list[str]:
        async with client() as session:
            return [tool.name for tool in await session.list_tools()]

    async def call(tool: str, arguments: dict[str, Any]) -> Any:
        try:
            async with client() as session:
                return ((await session.call_tool(tool, arguments)).structured_content or {})["result"]
        except (MCPError, OAuthTokenError) as error:
            raise refusal(error) from None
        except RuntimeError as error:  # "Client failed to connect: Token exchange failed"
            raise refusal(OAuthTokenError(str(error))) from None

    await converse({"list_tools": list_tools, "call": call})


asyncio.run(main(*sys.argv[1:]))
