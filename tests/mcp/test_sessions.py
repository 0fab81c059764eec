"""A session is for the holder and the task that began it, at servers of every kind and behind the guard."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from tests.mcp import servers
from tests.mcp.asking import INITIALIZE, JSON
from tests.mcp.notes import Notes, listening

pytestmark = pytest.mark.parametrize("make", servers.ALL, ids=lambda make: make.__name__)
VERSION = {"mcp-protocol-version": "2025-06-18"}
LIST = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
OTHERS: list[dict[str, str]] = [
    {"subject": "spiffe://example.org/agent/other", "task_id": "t-2"},
    {"subject": "spiffe://example.org/agent/other"},
    {"task_id": "t-2"},
]


@asynccontextmanager
async def begun(make: Any) -> AsyncIterator[tuple[Notes, httpx2.AsyncClient, str]]:
    """Begin a session; yield its id as the client has it."""
    async with (
        listening(make) as notes,
        httpx2.AsyncClient(headers={**JSON, **VERSION}, trust_env=False, timeout=30) as http,
    ):
        answer = await http.post(notes.url, json=INITIALIZE, headers=bearing(notes))
        session = answer.headers["mcp-session-id"]
        ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        await http.post(notes.url, json=ready, headers=bearing(notes, session))
        yield notes, http, session


def bearing(notes: Notes, session: str = "", **whose: str) -> dict[str, str]:
    named = {"mcp-session-id": session} if session else {}
    return {"authorization": f"Bearer {notes.token(**whose)}", **named}


@pytest.mark.parametrize("whose", OTHERS, ids=str)
async def test_nobody_else_uses_it_nor_ends_it_nor_reads_its_stream(make: Any, whose: dict[str, str]) -> None:
    async with begun(make) as (notes, http, session):
        theirs = bearing(notes, session, **whose)
        async with http.stream("GET", notes.url, headers=theirs) as stream:
            assert stream.status_code == 404
        assert (await http.delete(notes.url, headers=theirs)).status_code == 404
        assert (await http.post(notes.url, json=LIST, headers=theirs)).status_code == 404
        mine = await http.post(notes.url, json=LIST, headers=bearing(notes, session))
        assert (mine.status_code, "search_notes" in mine.text) == (200, True)


async def test_who_began_it_goes_on_with_a_renewed_credential_and_ends_it(make: Any) -> None:
    async with begun(make) as (notes, http, session):
        renewed = bearing(notes, session, lease_id="l-2")
        assert (await http.post(notes.url, json=LIST, headers=renewed)).status_code == 200
        assert (await http.delete(notes.url, headers=renewed)).status_code == 200
        assert (await http.post(notes.url, json=LIST, headers=renewed)).status_code == 404


async def test_an_id_is_taken_as_it_was_given_and_once(make: Any) -> None:
    async with begun(make) as (notes, http, session):
        bare = session.partition(".")[0]
        wrong = [f"{session}x", f"x{session}", session[:-1], "x", "."] + ([bare] if bare != session else [])
        for named in wrong:
            answer = await http.post(notes.url, json=LIST, headers=bearing(notes, named))
            assert answer.status_code == 404, named
        theirs = [*JSON.items(), *bearing(notes, **OTHERS[0]).items()]
        both = [("mcp-session-id", session), ("mcp-session-id", bare)]
        for named_twice in (both, both[::-1]):
            answer = await http.post(notes.url, json=LIST, headers=[*theirs, *named_twice])
            assert answer.status_code == 404
