"""The guard, asked by hand over a real socket: what it says, and bodies that two parsers could read in two ways."""

from __future__ import annotations

import json
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
from tests.mcp.asking import JSON, asking, message
from tests.mcp.notes import Notes
from tests.support.credentials import BROKER, believing


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


async def test_nothing_behind_it_is_open() -> None:
    async with asking() as (notes, http):
        del http.headers["authorization"]
        for path in ("/", "/sse", "/messages", "/mcp/", "/.well-known/oauth-protected-resource", "/mcp/../x"):
            url = notes.url.removesuffix("/mcp") + path
            assert (await http.get(url)).status_code == 401, path
            assert (await http.post(url, content=json.dumps(message()))).status_code == 401, path


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


@pytest.mark.parametrize("nonce_key", [b"", b"k" * 32], ids=["without nonces", "with nonces"])
async def test_credentials_bound_to_a_key_need_a_proof_for_each_request(nonce_key: bytes) -> None:
    key = EcSigner.generate()
    prover = Prover(key, system_clock, uuid7)

    def make(notes: Notes) -> Any:
        notes.verifier = believing(notes.signer, Verifier(notes.url, nonce_key=nonce_key))
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
