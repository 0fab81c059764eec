"""The guard, asked by hand over a real socket: what it says, and bodies that two parsers could read in two ways."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from starlette.middleware.cors import CORSMiddleware

from broker.credential.keys import EcSigner
from broker.model.grant import Grant
from broker.model.lease import Binding
from broker.sdk.client.possession import Prover
from broker.sdk.guard.mcp.http import McpGuard
from broker.sdk.guard.mcp.resource import ResourceMetadata
from broker.sdk.verify.verifier import Verifier
from broker.system import system_clock, uuid7
from tests.mcp import servers
from tests.mcp.notes import BROKER, Notes, listening

JSON = {"content-type": "application/json", "accept": "application/json, text/event-stream"}


def message(tool: str = "search_notes", /, **arguments: object) -> dict[str, Any]:
    params = {"name": tool, "arguments": arguments or {"limit": 1}}
    return {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}


@asynccontextmanager
async def asking(
    make: Any = servers.behind_the_guard, **headers: str
) -> AsyncIterator[tuple[Notes, httpx2.AsyncClient]]:
    async with (
        listening(make) as notes,
        httpx2.AsyncClient(headers={**JSON, **headers}, trust_env=False, timeout=60) as http,
    ):
        if "authorization" not in headers:
            http.headers["authorization"] = f"Bearer {notes.token()}"
        yield notes, http


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


async def test_it_says_where_credentials_come_from() -> None:
    async with asking() as (notes, http):
        del http.headers["authorization"]
        about = await http.get(notes.url.replace("/mcp", "/.well-known/oauth-protected-resource/mcp"))
        assert about.json()["resource"] == notes.url
        assert about.json()["authorization_servers"] == [BROKER]
        assert "scopes_supported" not in about.json()
        refused = await http.post(notes.url, json=message())
        challenge = refused.headers["www-authenticate"]
        assert (refused.status_code, challenge) == (401, f'Bearer resource_metadata="{about.url}"')


@pytest.mark.parametrize(
    ("resource", "places"),
    [
        ("https://notes.example", ["", "/"]),
        ("https://notes.example/", [""]),
        ("https://notes.example/mcp", ["/mcp"]),
        ("https://notes.example/mcp/", ["/mcp/", "/mcp"]),
        ("https://notes.example/a%20b/mcp", ["/a b/mcp"]),
        ("https://notes.example/mcp?of=me", ["/mcp?of=me"]),
    ],
)
async def test_the_metadata_is_where_the_rfc_says(resource: str, places: list[str]) -> None:
    metadata = ResourceMetadata(resource, [BROKER], [])
    for place in places:
        path, _, query = f"/.well-known/oauth-protected-resource{place}".partition("?")
        scope = {"method": "GET", "path": path, "query_string": query.encode(), "headers": []}
        assert metadata.is_asked(scope) == (place != "/"), place
        assert not metadata.is_asked({**scope, "path": f"{path}/x"})
    assert metadata.url == f"https://notes.example/.well-known/oauth-protected-resource{places[0]}".replace(" ", "%20")


PREFLIGHT = {
    "origin": "https://inspector.example",
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,mcp-protocol-version",
}


async def test_a_browser_is_answered_without_a_credential_and_let_in_to_the_metadata_alone() -> None:
    async with asking() as (notes, http):
        del http.headers["authorization"]
        asked = await http.options(notes.url, headers=PREFLIGHT)
        assert (asked.status_code, "access-control-allow-origin" in asked.headers) == (204, False)
        about = notes.url.replace("/mcp", "/.well-known/oauth-protected-resource/mcp")
        for answer in (await http.options(about, headers=PREFLIGHT), await http.get(about, headers=PREFLIGHT)):
            assert answer.headers["access-control-allow-origin"] == "*"
        assert (await http.options(notes.url)).status_code == 401


async def test_who_puts_cors_in_front_lets_browsers_in() -> None:
    def make(notes: Notes) -> Any:
        return CORSMiddleware(
            servers.behind_the_guard(notes),
            allow_origins=[PREFLIGHT["origin"]],
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=["WWW-Authenticate", "Mcp-Session-Id"],
        )

    async with asking(make) as (notes, http):
        del http.headers["authorization"]
        asked = await http.options(notes.url, headers=PREFLIGHT)
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, PREFLIGHT["origin"])
        refused = await http.post(notes.url, json=message(), headers={"origin": PREFLIGHT["origin"]})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, PREFLIGHT["origin"])
        assert "WWW-Authenticate" in refused.headers["access-control-expose-headers"]


async def test_what_is_wrong_with_a_credential_is_in_the_challenge() -> None:
    async with asking() as (notes, http):
        for token in ("x", notes.expired(), notes.token(audience="https://other.example"), notes.token(tenant="other")):
            refused = await http.post(notes.url, json=message(), headers={"authorization": f"Bearer {token}"})
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"].startswith('Bearer error="invalid_token", resource_metadata=')
        twice = [("authorization", f"Bearer {notes.token()}"), ("authorization", f"Bearer {notes.token()}")]
        async with httpx2.AsyncClient(trust_env=False, timeout=60) as other:
            assert (await other.post(notes.url, json=message(), headers=[*twice, *JSON.items()])).status_code == 401
        notes.verifier.fresh_until(0)
        assert (await http.post(notes.url, json=message())).status_code == 503
        assert notes.reached == []


async def test_a_tool_that_is_missing_is_asked_for_beside_those_that_are_there() -> None:
    async with asking() as (notes, http):
        refused = await http.post(notes.url, json=message("delete_notes"))
        assert refused.status_code == 403
        challenge = refused.headers["www-authenticate"]
        assert 'error="insufficient_scope"' in challenge
        assert 'scope="tool:search_notes tool:add_note tool:delete_notes"' in challenge
        assert refused.json()["id"] == 7
        assert refused.json()["error"]["data"]["reason"] == "TOOL_NOT_GRANTED"
        hostile = await http.post(notes.url, json=message('x", scope="tool:admin'))
        assert hostile.status_code in (200, 403)
        assert "admin" not in hostile.headers.get("www-authenticate", "")
        assert notes.reached == []


async def test_arguments_are_no_matter_of_scope() -> None:
    async with asking() as (notes, http):
        refused = await http.post(notes.url, json=message(limit=51))
        assert (refused.status_code, refused.json()["id"]) == (200, 7)
        assert refused.json()["error"]["data"]["reason"] == "ARGUMENT_OUT_OF_BOUNDS"
        assert notes.reached == []


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


async def test_nothing_behind_it_is_open() -> None:
    async with asking() as (notes, http):
        del http.headers["authorization"]
        for path in ("/", "/sse", "/messages", "/mcp/", "/.well-known/oauth-protected-resource", "/mcp/../x"):
            url = notes.url.removesuffix("/mcp") + path
            assert (await http.get(url)).status_code == 401, path
            assert (await http.post(url, content=GOOD)).status_code == 401, path


async def test_websockets_are_closed_and_the_rest_is_the_applications() -> None:
    seen: list[str] = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(scope["type"])

    guard = McpGuard(app, Verifier("https://notes.example/mcp"), authorization_servers=[BROKER])
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        raise AssertionError

    async def send(event: Any) -> None:
        sent.append(event["type"])

    await guard({"type": "websocket", "path": "/mcp"}, receive, send)
    await guard({"type": "lifespan"}, receive, send)
    assert (sent, seen) == (["websocket.close"], ["lifespan"])


@pytest.mark.parametrize("nonce_key", [b"", b"a key"], ids=["without nonces", "with nonces"])
async def test_credentials_bound_to_a_key_need_a_proof_for_each_request(nonce_key: bytes) -> None:
    key = EcSigner.generate()
    prover = Prover(key, system_clock, uuid7)

    def make(notes: Notes) -> Any:
        keys, issuer = notes.verifier.keys, notes.verifier.issuer
        notes.verifier = Verifier(notes.url, nonce_key=nonce_key)
        notes.verifier.use_keys(issuer, keys)
        notes.verifier.serve("acme")
        notes.verifier.fresh_until(float("inf"))
        return servers.behind_the_guard(notes)

    async with asking(make) as (notes, http):
        token = notes.token(binding=Binding.DPOP, confirmation=key.kid, grants=(Grant("search_notes"),))

        async def post(proof: str, scheme: str = "DPoP", method: str = "search_notes") -> httpx2.Response:
            headers = {"authorization": f"{scheme} {token}", "dpop": proof}
            return await http.post(notes.url, json=message(method), headers=headers)

        nonce = ""
        if nonce_key:
            wants = await post(prover.prove("POST", notes.url, token=token))
            assert (wants.status_code, 'error="use_dpop_nonce"' in wants.headers["www-authenticate"]) == (401, True)
            nonce = wants.headers["dpop-nonce"]
        good = prover.prove("POST", notes.url, token=token, nonce=nonce)
        for proof in (
            prover.prove("GET", notes.url, token=token, nonce=nonce),
            prover.prove("POST", notes.url + "/x", token=token, nonce=nonce),
            prover.prove("POST", notes.url, token=notes.token(), nonce=nonce),
            Prover(EcSigner.generate(), system_clock, uuid7).prove("POST", notes.url, token=token, nonce=nonce),
            "",
        ):
            assert (await post(proof)).status_code in (401, 403)
        assert (await post(good, scheme="Bearer")).status_code == 401
        assert notes.reached == []
        assert (await post(good)).status_code == 400, "it is admitted; the server asks for a session"
        assert (await post(good)).status_code == 401, "a proof is for one request"
