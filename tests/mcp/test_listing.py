"""Lists of tools, cut down to what is granted: whole answers, and streams that come in any pieces."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.sdk.guard.mcp.listing import Events, Listing, filtered, only_granted

GRANTED = frozenset({"read", "search"})
TOOLS = [{"name": "read"}, {"name": "delete", "description": "secret"}, {"name": "search"}]
ANSWER = {"jsonrpc": "2.0", "id": 1, "result": {"tools": TOOLS, "nextCursor": "c"}}
UNREADABLE = b'{"error":1}'


def names(document: Any) -> list[str]:
    return [tool["name"] for tool in document["result"]["tools"]]


def test_only_granted_tools_are_left_and_all_else_stays() -> None:
    kept = json.loads(filtered(json.dumps(ANSWER).encode(), GRANTED))
    assert names(kept) == ["read", "search"]
    assert (kept["id"], kept["result"]["nextCursor"]) == (1, "c")
    both = json.loads(filtered(json.dumps([ANSWER, {"result": {"x": 1}}]).encode(), frozenset()))
    assert (names(both[0]), both[1]) == ([], {"result": {"x": 1}})
    assert only_granted({"tools": [], "cacheScope": "public"}, GRANTED)["cacheScope"] == "private"
    other = b'{ "result" : { "x": 1.50 } }'
    assert filtered(other, GRANTED) is other


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"x",
        b"1",
        b'{"result": {"tools": 1}}',
        b'{"result": {"tools": [1]}}',
        b'{"result": {}, "result": {}}',
        b"\xff",
    ],
)
def test_what_cannot_be_read_is_not_let_through(answer: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        filtered(answer, GRANTED)


def stream(newline: str, mark: str) -> bytes:
    text = json.dumps(ANSWER)
    first, second = text[:20], text[20:]  # between two members or inside of one: data lines are joined by a newline
    lines = [
        ":a comment",
        "id: 5",
        f"data: {text}",
        "",
        "event: message",
        "data:" + text,
        "",
        "event: ping",
        "data: x",
        "",
    ]
    assert first + second == text
    return (mark + newline.join([*lines, "retry: 3", "id: 6", "data:", ""]) + newline).encode()


@given(
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    mark=st.sampled_from(["", "\ufeff"]),
    cuts=st.lists(st.integers(0, 600), max_size=12),
)
def test_a_stream_is_the_same_however_it_is_cut(newline: str, mark: str, cuts: list[int]) -> None:
    whole = stream(newline, mark)
    edges = sorted({0, len(whole), *(min(cut, len(whole)) for cut in cuts)})
    events = Events(GRANTED)
    # A last CR could be half of a CRLF, so an event that ends in it is whole with the next byte only.
    pieces = [whole[start:end] for start, end in pairwise(edges)]
    found = b"".join(event for piece in [*pieces, b":"] for event in events.feed(piece))
    assert b"delete" not in found
    assert b"secret" not in found
    assert found.count(b"search") == 2
    assert b"id: 5" in found
    assert b"event: ping" in found


def test_an_event_of_several_lines_is_read_as_one() -> None:
    text = json.dumps(ANSWER, indent=1)
    event = "".join(f"data: {line}\n" for line in text.splitlines()) + "\n"
    found = b"".join(Events(GRANTED).feed(event.encode()))
    assert names(json.loads(found.removeprefix(b"data: "))) == ["read", "search"]


def test_the_size_of_the_pieces_does_not_matter() -> None:
    """What is scanned from its start for each piece, or moved for each event, does not end in minutes."""
    large = {**ANSWER, "result": {"content": [{"type": "text", "text": "d" * 8_000_000}]}}
    event = b"event: message\r\ndata: " + json.dumps(large).encode() + b"\r\n\r\n"
    events = Events(GRANTED)
    pieces = [event[start : start + 64] for start in range(0, len(event), 64)]
    assert [found for piece in pieces for found in events.feed(piece)] == [event]
    assert sum(1 for _ in events.feed(b":\n\n" * 300_000)) == 300_000


def test_an_introduction_says_what_is_let_through_and_what_is_granted() -> None:
    capabilities = {
        "tools": {"listChanged": True},
        "experimental": {},
        "logging": {},
        "prompts": {},
        "resources": {"subscribe": True, "listChanged": True},
        "completions": {},
        "tasks": {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}},
        "extensions": {"io.modelcontextprotocol/ui": {}},
        "what comes next": {},
    }
    said = {"protocolVersion": "2025-06-18", "capabilities": capabilities, "instructions": "Be kind."}
    bounds = {"read": "", "search": "`/limit` must be there"}

    def shown(*also: str) -> Any:
        stream = b"data: " + json.dumps({"jsonrpc": "2.0", "id": 1, "result": said}).encode() + b"\n\n"
        (event,) = Events(bounds, also).feed(stream)
        return json.loads(event.removeprefix(b"data: "))["result"]

    kept = shown()
    assert kept["capabilities"] == {"tools": {"listChanged": True}, "experimental": {}}
    granted = "Tools that your credential grants: `read`; `search` (`/limit` must be there)."
    assert kept["instructions"] == f"Be kind.\n\n{granted}"
    opened = shown("resources/list", "tasks/get", "tasks/list", "logging/setLevel")["capabilities"]
    assert opened["resources"] == {"listChanged": True}
    assert opened["tasks"] == {"list": {}, "requests": {"tools": {"call": {}}}}
    assert set(opened) == {"tools", "experimental", "logging", "resources", "tasks"}
    other = b'{"result": {"capabilities": {"prompts": {}}}}'
    assert filtered(other, bounds) is other


def test_a_tool_without_a_proper_name_is_nobodys() -> None:
    listed = {"tools": [{"name": ["read"]}, {"name": None}, {}, {"name": "read"}]}
    assert only_granted(listed, GRANTED) == {"tools": [{"name": "read"}]}


def test_a_huge_event_is_not_collected_for_ever() -> None:
    events = Events(GRANTED)
    for _ in range(15):
        assert list(events.feed(b"data: " + b"x" * 1024 * 1024)) == []
    with pytest.raises(ValueError, match="too large"):
        list(events.feed(b"x" * 1024 * 1024))


def answered(
    content_type: str, *pieces: bytes, status: int = 200, alive: Any = lambda: True
) -> tuple[int, dict[bytes, bytes], bytes]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def run() -> None:
        listing = Listing(send, GRANTED, UNREADABLE, alive)
        headers = [(b"content-type", content_type.encode()), (b"content-length", b"1")]
        await listing({"type": "http.response.start", "status": status, "headers": headers})
        for piece in pieces:
            await listing({"type": "http.response.body", "body": piece, "more_body": True})
        await listing({"type": "http.response.body", "body": b"", "more_body": False})

    asyncio.run(run())
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], dict(sent[0]["headers"]), body


def test_an_answer_that_comes_in_pieces_is_one() -> None:
    text = json.dumps(ANSWER).encode()
    status, headers, body = answered("application/json; charset=utf-8", text[:30], text[30:])
    assert (status, names(json.loads(body))) == (200, ["read", "search"])
    assert headers[b"content-length"] == str(len(body)).encode()


def test_an_answer_that_cannot_be_read_is_replaced() -> None:
    for content_type, body in (("application/json", b"x"), ("text/html", b"<p>"), ("", b"{}x")):
        assert answered(content_type, body)[::2] == (502, UNREADABLE)
    assert answered("text/plain", b"no such thing", status=404)[::2] == (404, b"no such thing")


def test_a_stream_ends_with_its_credential() -> None:
    event, lives = b'data: {"method":"notifications/x"}\n\n', iter([True, False, True])
    assert answered("text/event-stream", event, event, event, alive=lambda: next(lives))[2] == event


def test_an_event_that_cannot_be_read_ends_the_stream_with_an_error() -> None:
    body = answered("text/event-stream", b"data: x\n\n", b'data: {"method":"y"}\n\n')[2]
    assert body == b"data: " + UNREADABLE + b"\r\n\r\n"
