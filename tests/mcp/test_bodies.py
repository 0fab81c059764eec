"""What the MCP guard takes as a message, and what it refuses to read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.mcp import servers
from tests.mcp.asking import asking, message


def unlived(app: Any) -> Any:
    """Serve an application that knows nothing of its life."""

    async def served(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await app(scope, receive, send)
            return
        while (event := (await receive())["type"]) != "lifespan.shutdown":
            await send({"type": f"{event}.complete"})
        await send({"type": f"{event}.complete"})

    return served


GOOD = json.dumps(message())


BODIES = {
    "the name twice": GOOD.replace('"name":', '"name": "add_note", "name":'),
    "the arguments twice": GOOD.replace('"arguments":', '"arguments": {"limit": 1}, "arguments":'),
    "the method twice": GOOD.replace('"method":', '"method": "ping", "method":'),
    "a second spelling of the arguments": GOOD.replace('"arguments":', '"Arguments": {"limit": 99}, "arguments":'),
    "a second spelling of the name": GOOD.replace('"name":', '"NAME": "delete_notes", "name":'),
    "a second spelling, escaped": GOOD.replace('"name":', '"n\\u0061me": "delete_notes", "name":'),
    "a second spelling with a long s": GOOD.replace('"arguments":', '"argument\u017f": {"limit": 99}, "arguments":'),
    "a second spelling alone": GOOD.replace('"arguments":', '"Arguments":'),
    "a member of params that nobody knows": GOOD.replace('"name":', '"x": 1, "name":'),
    "a second spelling of what is beside": GOOD.replace('"name":', '"_Meta": {}, "name":'),
    "a second spelling in what is beside": GOOD.replace('"name":', '"_meta": {"a": 1, "A": 2}, "name":'),
    "something beside that is no object": GOOD.replace('"name":', '"_meta": [], "name":'),
    "a second spelling of the method": GOOD.replace('"method":', '"Method": "ping", "method":'),
    "a second spelling of the method alone": GOOD.replace('"method":', '"METHOD":'),
    "a second spelling of the params": GOOD.replace('"params":', '"Params": {}, "params":'),
    "a second spelling of the id": GOOD.replace('"id":', '"ID": 8, "id":'),
    "a member that nobody knows": GOOD.replace('"id":', '"x": 8, "id":'),
    "another version of JSON-RPC": GOOD.replace('"2.0"', '"1.0"'),
    "no version of JSON-RPC": GOOD.replace('"jsonrpc": "2.0", ', ""),
    "a call that is a response too": GOOD.replace('"id":', '"result": {}, "id":'),
    "a call that is an error too": GOOD.replace('"id":', '"error": {}, "id":'),
    "a response that some take for a call": GOOD.replace('"method":', '"result": {}, "Method":'),
    "an error that some take for a call": GOOD.replace('"method":', '"error": {}, "METHOD":').replace(
        "params", "Params"
    ),
    "a response that is an error too": '{"jsonrpc": "2.0", "id": 1, "result": {}, "error": {}}',
    "a response to nothing": '{"jsonrpc": "2.0", "result": {}}',
    "a response in a batch that some take for a call": f"[{GOOD}, {GOOD.replace('method', 'Method')}]",
    "a batch that is too large": f"[{', '.join([GOOD] * 65)}]",
    "no number": GOOD.replace("1}", "NaN}"),
    "two documents": GOOD + GOOD,
    "a comment": GOOD + "// x",
    "a byte order mark": "\ufeff" + GOOD,
    "a text": '"x"',
    "nothing": "",
    "null": "null",
    "an empty batch": "[]",
    "a batch in a batch": f"[[{GOOD}]]",
    "a batch with what is no message": f"[{GOOD}, 1]",
    "no method": '{"jsonrpc": "2.0", "id": 1}',
    "a method that is no text": '{"jsonrpc": "2.0", "id": 1, "method": 1}',
    "params that are a list": '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": ["search_notes"]}',
    "a name that is no text": GOOD.replace('"search_notes"', '["search_notes"]'),
    "arguments that are a list": GOOD.replace('{"limit": 1}', "[1]"),
    "an id that is an object": GOOD.replace('"id": 7', '"id": {}'),
    "an id that is null": GOOD.replace('"id": 7', '"id": null'),
    "deep nesting": GOOD.replace('{"limit": 1}', '{"limit": 1, "x": ' + "[" * 10_000 + "]" * 10_000 + "}"),
}


async def test_bodies_that_can_be_misread_are_refused() -> None:
    async with asking() as (notes, http):
        for what, body in BODIES.items():
            assert (await http.post(notes.url, content=body.encode())).status_code == 400, what
        for encoding in ("utf-16", "utf-16-le", "utf-32", "utf-7"):
            assert (await http.post(notes.url, content=GOOD.encode(encoding))).status_code in (400, 200), encoding
        assert notes.reached in ([], [("search_notes", 1)])  # UTF-7 of this text is the text itself


@pytest.mark.parametrize("body", [{"result": {"a": 1, "A": 2}}, {"error": {"code": 1, "message": "x"}}], ids=str)
async def test_what_answers_the_server_goes_through(body: dict[str, Any]) -> None:
    async with asking() as (notes, http):
        answer = await http.post(notes.url, json={"jsonrpc": "2.0", "id": 1, **body})
        assert "INVALID_ARGUMENT" not in answer.text


@pytest.mark.parametrize("data", [{"README": "a", "readme": "b"}, {"Stra\u00dfe": 1, "STRASSE": 2}], ids=str)
async def test_keys_of_data_may_be_alike(data: dict[str, Any]) -> None:
    reached: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        reached.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async with asking(lambda notes: unlived(servers.guard(notes, app))) as (notes, http):
        call = message("add_note", text="x", labels=data)
        assert (await http.post(notes.url, json=call)).status_code == 200
        assert [json.loads(body) for body in reached] == [call]


async def test_so_are_requests_that_can() -> None:
    async with asking() as (notes, http):
        for what, headers in {
            "another charset": {"content-type": "application/json; charset=utf-7"},
            "another type": {"content-type": "text/plain"},
            "an encoding": {"content-encoding": "gzip"},
            "another method in the header": {"mcp-method": "ping"},
            "another tool in the header": {"mcp-name": "add_note"},
        }.items():
            assert (await http.post(notes.url, content=GOOD, headers=headers)).status_code == 400, what
        for method in ("PUT", "PATCH", "GET", "DELETE", "QUERY"):
            assert (await http.request(method, notes.url, content=GOOD)).status_code == 400, method
        large = await http.post(notes.url, content=b" " * (4 * 1024 * 1024 + 1))
        assert large.status_code == 413
        assert notes.reached == []


async def test_each_message_of_a_batch_counts() -> None:
    async with asking() as (notes, http):
        asked = [message(), {**message("delete_notes"), "id": 8}]
        refused = await http.post(notes.url, json=asked)
        assert [answer["id"] for answer in refused.json()] == [7, 8]
        assert all(answer["error"]["data"]["reason"] == "TOOL_NOT_GRANTED" for answer in refused.json())
        notification = {"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "delete_notes"}}
        assert (await http.post(notes.url, json=notification)).status_code == 403
        assert notes.reached == []
