"""Guards servers made with FastMCP 4.x from inside, over HTTP and over standard input.

``FastMCP("notes", auth=FastMcpTokenVerifier(verifier), middleware=[FastMcpGuard(verifier)])``, or with the former
in a `RemoteAuthProvider`, which tells clients where to get credentials; over standard input, without `auth` and with
``FastMcpGuard(verifier, token_from_environment())``.

FastMCP's own `AuthMiddleware` sees no arguments, and lets everything through over standard input; this one does not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from fastmcp.exceptions import McpError
from fastmcp.server.auth.auth import AccessToken, TokenVerifier
from fastmcp.server.dependencies import get_access_token
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from fastmcp.tools.base import Tool
from mcp.types import DiscoverRequest, DiscoverResult, InitializeRequest, InitializeResult, Request
from pydantic import BaseModel

from broker.model.errors import Hints, Reason, Refusal
from broker.sdk.guard.mcp import methods
from broker.sdk.guard.mcp.advertised import advertised
from broker.sdk.guard.mcp.listing import with_bounds
from broker.sdk.guard.mcp.stdio import TokenSource
from broker.sdk.guard.mcp.token_verifier import BrokerTokenVerifier
from broker.sdk.verify.admitted import Admitted
from broker.sdk.verify.verifier import Verifier


class FastMcpTokenVerifier(TokenVerifier):
    """Reports to the server whether the credential of a request is good; as `BrokerTokenVerifier`."""

    def __init__(self, verifier: Verifier, *, base_url: str | None = None) -> None:
        """Make one on a verifier whose audience is the URL of the server's MCP endpoint."""
        super().__init__(base_url=base_url)
        self._inner = BrokerTokenVerifier(verifier)

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return what the server wants to know of a good token; None of any other."""
        access = await self._inner.verify_token(token)
        return None if access is None else AccessToken(**access.model_dump())


class FastMcpGuard(Middleware):
    """Lets through what the caller's credential covers, and lists only the tools that it grants.

    Else as `broker.sdk.guard.mcp.server.McpServerGuard`.
    """

    def __init__(self, verifier: Verifier, token: TokenSource | None = None, *, also: Collection[str] = ()) -> None:
        """Make one for a server."""
        self._verifier = verifier
        self._token = token or _token_of_request
        self._also = frozenset(also)

    async def on_request(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:  # noqa: ANN401
        """Check a request of any method before the server handles it.

        Raises:
            McpError: it is refused.
        """
        try:
            methods.check(self._admit(), context.method or "", _params(context.message), self._also)
        except Refusal as refusal:
            raise McpError(**methods.error_of(refusal)) from refusal
        return await call_next(context)

    async def on_list_tools(
        self, context: MiddlewareContext[Any], call_next: CallNext[Any, Sequence[Tool]]
    ) -> Sequence[Tool]:
        """List only what is granted, and tell its bounds."""
        bounds = self._admit().bounds
        return [_with_bounds(tool, bounds) for tool in await call_next(context) if tool.name in bounds]

    async def on_initialize(
        self,
        context: MiddlewareContext[InitializeRequest],
        call_next: CallNext[InitializeRequest, InitializeResult | None],
    ) -> InitializeResult | None:
        """Advertise only what is let through, and tell the bounds of what is granted."""
        bounds = self._admit().bounds
        result = await call_next(context)
        return None if result is None else InitializeResult.model_validate(self._introduced(result, bounds))

    async def on_discover(
        self,
        context: MiddlewareContext[DiscoverRequest],
        call_next: CallNext[DiscoverRequest, DiscoverResult | dict[str, Any]],
    ) -> DiscoverResult | dict[str, Any]:
        """Advertise as `on_initialize` does."""
        bounds = self._admit().bounds
        result = await call_next(context)
        return result if isinstance(result, dict) else DiscoverResult.model_validate(self._introduced(result, bounds))

    def _introduced(self, result: BaseModel, bounds: Mapping[str, str]) -> dict[str, Any]:
        return advertised(result.model_dump(by_alias=True, mode="json", exclude_none=True), bounds, self._also)

    def _admit(self) -> Admitted:
        return self._verifier.admit(self._token())


def _with_bounds(tool: Tool, bounds: Mapping[str, str]) -> Tool:
    described = with_bounds(tool.description, tool.name, bounds)
    return tool if described is None else tool.model_copy(update={"description": described})


def _params(message: object) -> object:
    """Return the params of a message: some requests come whole, others as their params alone."""
    params = message.params if isinstance(message, Request) else message
    return params.model_dump(by_alias=True) if isinstance(params, BaseModel) else params


def _token_of_request() -> str:
    access = get_access_token()
    if access is None:
        raise Refusal(
            Reason.TOKEN_INVALID,
            "the message came without a credential",
            Hints(next="give the server `auth`, or this guard a source of the token"),
        )
    return access.token
