"""The client of version 1 of package `mcp`, with its own OAuth. Arguments: URL ISSUER JWT_SVID_FILE ROOTS_FILE."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
from mcp import ClientSession, McpError
from mcp.client.auth import OAuthTokenError
from mcp.client.auth.extensions.client_credentials import PrivateKeyJWTOAuthProvider
from mcp.client.streamable_http import streamable_http_client

from broker.cli.demo.lines import converse
from broker.model.errors import Reason, Refusal


class Memory:
    token: Any = None

    async def get_tokens(self) -> Any:
        return self.token

    async def set_tokens(self, tokens: Any) -> None:
        self.token = tokens

    async def get_client_info(self) -> None: ...

    async def set_client_info(self, client_info: Any) -> None: ...


async def main(url: str, issuer: str, jwt_svid: str, roots: str) -> None:
    async def proof(_audience: str) -> str:
        return Path(jwt_svid).read_text()

    auth = PrivateKeyJWTOAuthProvider(url, Memory(), client_id="researcher", assertion_provider=proof, issuer=issuer)

    async def session(do: Callable[[ClientSession], Awaitable[Any]]) -> Any:
        try:
            async with (
                httpx.AsyncClient(auth=auth, verify=ssl.create_default_context(cafile=roots), trust_env=False) as http,
                streamable_http_client(url, http_client=http) as (reading, writing, _),
                ClientSession(reading, writing) as client,
            ):
                await client.initialize()
                return await do(client)
        except ExceptionGroup as errors:
            raise refusal(errors) from None

    async def list_tools() -> list[str]:
        return [tool.name for tool in (await session(lambda client: client.list_tools())).tools]

    async def call(tool: str, arguments: dict[str, Any]) -> Any:
        return (await session(lambda client: client.call_tool(tool, arguments))).structuredContent["result"]

    await converse({"list_tools": list_tools, "call": call})


def refusal(errors: ExceptionGroup[Any]) -> Refusal:
    error: Any = errors
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, McpError):
        return Refusal(Reason(error.error.data["reason"]), error.error.message)
    if isinstance(error, OAuthTokenError):
        answer = json.loads(str(error)[str(error).index("{") :])
        return Refusal(Reason(answer["reason"]), answer["error_description"])
    raise errors


asyncio.run(main(*sys.argv[1:]))
