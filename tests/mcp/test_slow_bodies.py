"""What is true when a request begins may be so no more when it is whole: a body that comes late, or never."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from broker.credential.keys import EcSigner
from broker.model.lease import Binding
from broker.sdk.client.possession import Prover
from broker.sdk.guard.http import HttpGuard
from broker.sdk.guard.http_request import App
from broker.sdk.guard.mcp.http import McpGuard
from broker.system import system_clock, uuid7
from tests.mcp import servers
from tests.mcp.asking import INITIALIZE, JSON, message
from tests.mcp.notes import Notes, listening
from tests.support.credentials import BROKER

BODY = json.dumps(message(limit=3)).encode()
PATIENCE = timedelta(milliseconds=200)


def expire(notes: Notes) -> None:
    notes.verifier.clock = lambda: system_clock() + timedelta(hours=1)


def grow_stale(notes: Notes) -> None:
    notes.verifier.fresh_until(0)


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})
        return
    while (event := (await receive())["type"]) != "lifespan.shutdown":
        await send({"type": f"{event}.complete"})
    await send({"type": f"{event}.complete"})


def plain(notes: Notes, **how: Any) -> App:
    """Put the guard that needs no MCP in front of an application that notes by what it was reached."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            notes.reached.append((scope["credbroker"].tool, None))
        await nothing(scope, receive, send)

    return HttpGuard(app, notes.verifier, route=lambda _scope, _body: ("search_notes", {"limit": 3}), **how)


@asynccontextmanager
async def reading(make: Callable[[Notes], App]) -> AsyncIterator[tuple[Notes, asyncio.Event]]:
    """Serve, and tell when the server has begun to read a body."""
    begun = asyncio.Event()

    def watched(notes: Notes) -> App:
        app = make(notes)

        async def served(scope: Any, receive: Any, send: Any) -> None:
            async def told() -> Any:
                begun.set()
                return await receive()

            await app(scope, told if scope["type"] == "http" else receive, send)

        return served

    async with listening(watched) as notes:
        yield notes, begun


async def session(notes: Notes, headers: dict[str, str]) -> dict[str, str]:
    async with httpx2.AsyncClient(headers=headers, trust_env=False, timeout=60) as http:
        begun = await http.post(notes.url, json=INITIALIZE)
        named = {"mcp-session-id": begun.headers.get("mcp-session-id", ""), "mcp-protocol-version": "2025-06-18"}
        await http.post(notes.url, json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=named)
    return named


@asynccontextmanager
async def begun_request(
    notes: Notes, headers: dict[str, str]
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Send the head of a request and the first byte of its body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", notes.port)
    lines = {**headers, "host": f"127.0.0.1:{notes.port}", "content-length": str(len(BODY)), "connection": "close"}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    writer.write(f"POST /mcp HTTP/1.1\r\n{head}\r\n".encode() + BODY[:1])
    await writer.drain()
    yield reader, writer
    writer.close()


@pytest.mark.parametrize("end", [Notes.revoke, expire, grow_stale], ids=lambda end: end.__name__)
@pytest.mark.parametrize("make", [*servers.ALL, plain], ids=lambda make: make.__name__)
async def test_what_counts_is_the_instant_at_which_a_request_is_whole(make: Any, end: Callable[[Notes], None]) -> None:
    async with reading(make) as (notes, begun):
        headers = {"authorization": f"Bearer {notes.token()}", **JSON}
        headers |= {} if make is plain else await session(notes, headers)
        notes.reached.clear()
        begun.clear()
        async with begun_request(notes, headers) as (reader, writer):
            await begun.wait()
            end(notes)
            writer.write(BODY[1:])
            answer = await reader.read()
        assert notes.reached == []
        assert b"TOKEN_" in answer or b"VERIFIER_STALE" in answer or b" 401 " in answer.splitlines()[0]


@pytest.mark.parametrize("make", [*servers.ALL, plain], ids=lambda make: make.__name__)
async def test_a_request_that_is_whole_in_time_goes_through(make: Any) -> None:
    async with reading(make) as (notes, begun):
        headers = {"authorization": f"Bearer {notes.token()}", **JSON}
        headers |= {} if make is plain else await session(notes, headers)
        begun.clear()
        async with begun_request(notes, headers) as (reader, writer):
            await begun.wait()
            writer.write(BODY[1:])
            assert b" 200 " in (await reader.readline())
            await reader.read()
        assert [tool for tool, _ in notes.reached] == ["search_notes"]


def impatient(notes: Notes) -> App:
    return McpGuard(nothing, notes.verifier, authorization_servers=[BROKER], body_within=PATIENCE)


def impatient_plain(notes: Notes) -> App:
    return plain(notes, body_within=PATIENCE)


@pytest.mark.parametrize("make", [impatient, impatient_plain])
async def test_a_body_that_does_not_come_is_not_waited_for(make: Any) -> None:
    async with reading(make) as (notes, _):
        headers = {"authorization": f"Bearer {notes.token()}", **JSON}
        async with begun_request(notes, headers) as (reader, _writer):
            answer = await reader.read()  # to the end: it hangs up
        assert b" 408 " in answer.splitlines()[0]
        assert b"0.2 seconds" in answer
        assert notes.reached == []


@pytest.mark.parametrize("make", [impatient, impatient_plain])
async def test_no_body_is_read_for_a_credential_that_is_not_good(make: Any) -> None:
    async with reading(make) as (notes, begun):
        for token in ("x", notes.expired()):
            async with begun_request(notes, {"authorization": f"Bearer {token}", **JSON}) as (reader, _writer):
                assert b" 401 " in await reader.readline()
        assert not begun.is_set()


async def test_a_proof_is_used_up_when_the_request_is_whole_and_not_before() -> None:
    key = EcSigner.generate()
    prover = Prover(key, system_clock, uuid7)
    async with reading(servers.behind_the_guard) as (notes, begun):
        token = notes.token(binding=Binding.DPOP, confirmation=key.kid)
        proof = prover.prove("POST", notes.url, token=token)
        headers = {"authorization": f"DPoP {token}", "dpop": proof, **JSON}
        async with begun_request(notes, headers) as (_reader, _writer):
            await begun.wait()
        async with httpx2.AsyncClient(headers=headers, trust_env=False, timeout=60) as http:
            assert (await http.post(notes.url, json=INITIALIZE)).status_code == 200
            assert (await http.post(notes.url, json=INITIALIZE)).status_code == 401
