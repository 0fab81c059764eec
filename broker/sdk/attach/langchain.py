"""Gets a credential for each MCP tool call of a LangChain agent, for that tool and that call alone.

``MultiServerMCPClient(connections, tool_interceptors=[CredentialPerCall(client, task_id, {"notes": URL})])``. Needs
`langchain-mcp-adapters`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, Self, TypeVar

from broker.model.errors import Hints, Reason, Refusal
from broker.model.grant import Grant
from broker.sdk.client.client import Client

Result = TypeVar("Result")


class ToolCallRequest(Protocol):
    """What of `MCPToolCallRequest` is used here."""

    name: str
    server_name: str
    headers: dict[str, Any] | None

    def override(self, *, headers: dict[str, Any] | None) -> Self:
        """Return the request with other headers."""


AnyRequest = TypeVar("AnyRequest", bound=ToolCallRequest)


class CredentialPerCall:
    """Asks the broker for each call, and releases the credential after it, however the call went.

    `resources` are the URIs of the MCP servers by the names of their connections; tools of others are not called. A
    call is a session of several requests, so the client must not have a `holder_key`: the header holds one proof, and
    that is good for one request.
    """

    def __init__(self, client: Client, task_id: str, resources: Mapping[str, str]) -> None:
        """Make one for a task. The client stays open while tools are called."""
        self._client = client
        self._task_id = task_id
        self._resources = resources

    async def __call__(self, request: AnyRequest, handler: Callable[[AnyRequest], Awaitable[Result]]) -> Result:
        """Call a tool.

        Raises:
            Refusal: INVALID_ARGUMENT; else as in protos/broker/v1/agent_service.proto.
        """
        resource = self._resources.get(request.server_name)
        if resource is None:
            raise _invalid(f"no resource is named for the MCP server `{request.server_name}`", "resources")
        async with self._client.credential(self._task_id, resource, [Grant(request.name)]) as credential:
            if credential.prover is not None:
                raise _invalid("a credential that is bound to a key does not fit into headers", "holder_key")
            headers = {**(request.headers or {}), **credential.headers("POST", resource)}
            return await handler(request.override(headers=headers))


def _invalid(what: str, missing: str) -> Refusal:
    return Refusal(Reason.INVALID_ARGUMENT, what, Hints(missing=missing, next="see broker.sdk.attach.langchain"))
