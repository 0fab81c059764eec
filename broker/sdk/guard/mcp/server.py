"""Guards servers made with `mcp` 2.x from inside: every message is checked, over HTTP and over standard input.

``MCPServer("notes", auth=…, token_verifier=BrokerTokenVerifier(verifier), middleware=[McpServerGuard(verifier)])``,
or for standard input ``MCPServer("notes", middleware=[McpServerGuard(verifier, token_from_environment())])``.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel

from broker.model.errors import Hints, Reason, Refusal
from broker.sdk.guard.mcp import methods
from broker.sdk.guard.mcp.advertised import advertised
from broker.sdk.guard.mcp.listing import only_granted
from broker.sdk.guard.mcp.stdio import TokenSource
from broker.sdk.verify.verifier import Verifier


class McpServerGuard:
    """Lets through what the caller's credential covers, and lists only the tools that it grants.

    Without `token` the credential is that of the HTTP request, which a `BrokerTokenVerifier` let in; nothing else lets
    a message pass. What is refused is a JSON-RPC error in an answer with 200, as this is not the place for a status: a
    stock client does not ask for more scopes then. `also` is as in `broker.sdk.guard.mcp.http`.
    """

    def __init__(self, verifier: Verifier, token: TokenSource | None = None, *, also: Collection[str] = ()) -> None:
        """Make one for a server."""
        self._verifier = verifier
        self._token = token
        self._also = frozenset(also)

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Check a message before the server handles it.

        Raises:
            MCPError: it is refused. A notification is dropped instead, as nobody waits for an answer.
        """
        try:
            admitted = self._verifier.admit(self._token_of(ctx) if self._token is None else self._token())
            methods.check(admitted, ctx.method, ctx.params, self._also)
        except Refusal as refusal:
            if ctx.request_id is None:
                return None
            raise MCPError(**methods.error_of(refusal)) from refusal
        result = await call_next(ctx)
        if ctx.method == methods.LIST:
            return only_granted(_as_dict(result), admitted.bounds)
        if ctx.method in methods.INTRODUCING:
            return advertised(_as_dict(result), admitted.bounds, self._also)
        return result

    def _token_of(self, ctx: ServerRequestContext[Any, Any]) -> str:
        # From the request itself: a session keeps the context of the request that began it, and so its first token.
        user = None if ctx.request is None else ctx.request.scope.get("user")
        if not isinstance(user, AuthenticatedUser):
            raise Refusal(
                Reason.TOKEN_INVALID,
                "the message came without a credential",
                Hints(next="give the server `auth` and `token_verifier`, or this guard a source of the token"),
            )
        return user.access_token.token


def _as_dict(result: HandlerResult) -> dict[str, Any]:
    """Return a result as other middleware left it."""
    if isinstance(result, BaseModel):
        return result.model_dump(by_alias=True, mode="json", exclude_none=True)
    return result or {}
