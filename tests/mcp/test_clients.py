"""Stock clients of `mcp` 2.x and FastMCP at guarded servers of both: real sockets, no line of theirs changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx2
import pytest
from fastmcp import Client as FastMcpClient
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from broker.model.grant import Constraint, Grant, Operator
from broker.model.lease import Binding
from tests.mcp import servers
from tests.mcp.notes import Notes, listening

pytestmark = [
    pytest.mark.parametrize("make", servers.ALL, ids=lambda make: make.__name__),
    pytest.mark.parametrize("mode", ["auto", "legacy"]),
]


@asynccontextmanager
async def connected(notes: Notes, mode: Any, **changes: Any) -> AsyncIterator[Client]:
    headers = {"authorization": f"Bearer {notes.token(**changes)}"}
    async with (
        httpx2.AsyncClient(headers=headers, trust_env=False, timeout=60) as http,
        Client(streamable_http_client(notes.url, http_client=http), mode=mode) as client,
    ):
        yield client


async def refused(client: Client, tool: str, arguments: dict[str, Any]) -> Any:
    with pytest.raises(MCPError) as error:
        await client.call_tool(tool, arguments)
    assert (error.value.error.data or {}).get("reason", "") in error.value.error.message
    return error.value.error.data


async def test_a_granted_call_works(make: Any, mode: Any) -> None:
    async with listening(make) as notes, connected(notes, mode) as client:
        result = await client.call_tool("search_notes", {"limit": 10})
        assert not result.is_error
        assert result.structured_content == {"result": "10 notes"}
        assert notes.reached == [("search_notes", 10)]


async def test_a_tool_that_is_not_granted_is_refused_with_what_is_missing(make: Any, mode: Any) -> None:
    async with listening(make) as notes, connected(notes, mode) as client:
        data = await refused(client, "delete_notes", {})
        assert (data["reason"], data["missing"]) == ("TOOL_NOT_GRANTED", "tool:delete_notes")
        assert notes.reached == []


@pytest.mark.parametrize("arguments", [{"limit": 51}, {"limit": "10"}, {}])
async def test_an_argument_out_of_bounds_is_told_to_the_model_and_the_session_lives_on(
    make: Any, mode: Any, arguments: dict[str, Any]
) -> None:
    async with listening(make) as notes, connected(notes, mode) as client:
        data = await refused(client, "search_notes", arguments)
        assert (data["reason"], data["missing"]) == ("ARGUMENT_OUT_OF_BOUNDS", "/limit range")
        assert notes.reached == []
        await client.call_tool("search_notes", {"limit": 50})
        assert notes.reached == [("search_notes", 50)]


async def test_all_that_is_wrong_with_a_call_is_told_at_once(make: Any, mode: Any) -> None:
    limit = Constraint("/limit", Operator.RANGE, (1, 50))
    force = Constraint("/force", Operator.ABSENT)
    grant = Grant("search_notes", (limit, Constraint("/repo", Operator.IN, ("acme/web", "acme/api")), force))
    async with listening(make) as notes, connected(notes, mode, grants=(grant,)) as client:
        data = await refused(client, "search_notes", {"limit": 51, "force": True})
        assert {wrong["field"]: wrong["description"] for wrong in data["violations"]} == {
            "/limit": "must be a whole number from 1 to 50",
            "/repo": 'must be one of "acme/web", "acme/api"',
            "/force": "must not be there",
        }
        with pytest.raises(MCPError, match=r"from 1 to 50; `/repo` must be one of .*; `/force` must not be there"):
            await client.call_tool("search_notes", {"limit": 51, "force": True})


async def test_the_bounds_are_told_beforehand(make: Any, mode: Any) -> None:
    async with listening(make) as notes, connected(notes, mode) as client:
        told = {tool.name: tool.description for tool in (await client.list_tools()).tools}
        bounds = "`/limit` must be a whole number from 1 to 50"
        assert told["search_notes"] == f"Search.\n\nYour credential's bounds for its arguments: {bounds}."
        assert told["add_note"] == "Add."
        said = f"Tools that your credential grants: `search_notes` ({bounds}); `add_note`."
        assert (client.instructions or "").endswith(said)


async def test_nothing_is_advertised_that_is_refused(make: Any, mode: Any) -> None:
    async with listening(make) as notes, connected(notes, mode) as client:
        advertised = client.server_capabilities
        assert advertised is not None
        assert advertised.tools is not None
        assert (advertised.resources, advertised.prompts, advertised.logging) == (None, None, None)
    async with listening(partial(make, also=["resources/list"])) as notes, connected(notes, mode) as client:
        advertised = client.server_capabilities
        assert advertised is not None
        assert advertised.resources is not None
        assert not advertised.resources.subscribe
        assert advertised.prompts is None


async def test_only_granted_tools_are_listed(make: Any, mode: Any) -> None:
    async with listening(make) as notes, connected(notes, mode) as client:
        listed = await client.list_tools()
        assert sorted(tool.name for tool in listed.tools) == ["add_note", "search_notes"]
        assert listed.cache_scope == "private"


async def test_resources_are_not_what_a_credential_grants(make: Any, mode: Any) -> None:
    async with listening(make) as notes, connected(notes, mode) as client:
        for attempt in (client.read_resource("notes://secret"), client.list_resources(), client.list_prompts()):
            with pytest.raises(MCPError) as error:
                await attempt
            assert error.value.error.data["reason"] == "TOOL_NOT_GRANTED"
            assert servers.SECRET not in str(error.value)


async def test_a_revocation_ends_a_session_in_its_middle(make: Any, mode: Any) -> None:
    async with listening(make) as notes, connected(notes, mode) as client:
        await client.call_tool("search_notes", {"limit": 1})
        notes.revoke()
        with pytest.raises(MCPError):
            await client.call_tool("search_notes", {"limit": 2})
        with pytest.raises(MCPError):
            await client.list_tools()
        assert notes.reached == [("search_notes", 1)]


async def test_so_does_losing_the_broker(make: Any, mode: Any) -> None:
    async with listening(make) as notes, connected(notes, mode) as client:
        notes.verifier.fresh_until(0)
        with pytest.raises(MCPError):
            await client.call_tool("search_notes", {"limit": 2})
        assert notes.reached == []


async def test_a_session_goes_by_the_credential_of_each_request(make: Any, mode: Any) -> None:
    async with (
        listening(make) as notes,
        httpx2.AsyncClient(headers={"authorization": f"Bearer {notes.token()}"}, trust_env=False, timeout=60) as http,
        Client(streamable_http_client(notes.url, http_client=http), mode=mode) as client,
    ):
        assert len((await client.list_tools()).tools) == 2
        one = notes.token(grants=(Grant("search_notes", (Constraint("/limit", Operator.EQ, (7,)),)),))
        http.headers["authorization"] = f"Bearer {one}"
        assert [tool.name for tool in (await client.list_tools(cache_mode="bypass")).tools] == ["search_notes"]
        assert (await refused(client, "search_notes", {"limit": 1}))["reason"] == "ARGUMENT_OUT_OF_BOUNDS"
        assert (await refused(client, "add_note", {"text": "x"}))["reason"] == "TOOL_NOT_GRANTED"
        await client.call_tool("search_notes", {"limit": 7})
        assert notes.reached == [("search_notes", 7)]


@pytest.mark.parametrize(
    "changes",
    [{"audience": "https://other.example/mcp"}, {"binding": Binding.IDENTITY}, {"tenant": "other"}, "expired"],
    ids=str,
)
async def test_a_credential_that_is_not_good_here_does_not_even_connect(make: Any, mode: Any, changes: Any) -> None:
    async with listening(make) as notes:
        token = notes.expired() if changes == "expired" else notes.token(**changes)
        async with httpx2.AsyncClient(
            headers={"authorization": f"Bearer {token}"}, trust_env=False, timeout=60
        ) as http:
            with pytest.raises(BaseExceptionGroup) as failure:
                async with Client(streamable_http_client(notes.url, http_client=http), mode=mode):
                    pytest.fail("must not connect")
            assert failure.group_contains(MCPError)
        assert notes.reached == []


async def test_the_client_of_fastmcp_sees_the_same(make: Any, mode: Any) -> None:
    async with listening(make) as notes, FastMcpClient(notes.url, auth=notes.token()) as client:
        assert sorted(tool.name for tool in await client.list_tools()) == ["add_note", "search_notes"]
        found = await client.call_tool("search_notes", {"limit": 3})
        assert found.structured_content == {"result": "3 notes"}
        for tool, arguments, reason in (
            ("delete_notes", {}, "TOOL_NOT_GRANTED"),
            ("search_notes", {"limit": 51}, "ARGUMENT_OUT_OF_BOUNDS"),
        ):
            with pytest.raises(MCPError, match=reason):
                await client.call_tool(tool, arguments)
        assert notes.reached == [("search_notes", 3)]


async def test_what_any_credential_may_use_can_be_named(make: Any, mode: Any) -> None:
    opened = partial(make, also=["resources/read"])
    async with listening(opened) as notes, connected(notes, mode) as client:
        assert servers.SECRET in str(await client.read_resource("notes://secret"))
        with pytest.raises(MCPError, match="TOOL_NOT_GRANTED"):
            await client.list_resources()
