"""The guard lets a request through only if the verifier does: a real server, a real socket."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from broker.credential import jose
from broker.credential.keys import EcSigner
from broker.model.grant import Constraint, Grant, Operator
from broker.model.lease import Binding
from broker.sdk.client.credential import Credential
from broker.sdk.client.possession import Prover
from broker.sdk.client.secret import Secret
from broker.sdk.guard.http import HttpGuard
from broker.sdk.verify.verifier import Verifier
from broker.system import system_clock, uuid7
from tests.support.credentials import believing, good_now

AUDIENCE = "https://notes.tools.example"
SIGNER = EcSigner.generate()
ANYTHING = (Grant("search_notes"),)
REACHED: list[dict[str, Any]] = []


def token(**changes: Any) -> str:
    grants = (Grant("search_notes", (Constraint("/limit", Operator.RANGE, (1, 50)),)),)
    claims = good_now(AUDIENCE, grants, Binding.BEARER)
    return jose.encode(replace(claims, **changes), SIGNER)


@pytest.fixture
def verifier() -> Verifier:
    return believing(SIGNER, Verifier(AUDIENCE))


async def serve_notes(request: Request) -> JSONResponse:
    call, body = request.scope["credbroker"], await request.body()
    REACHED.append({"lease": call.lease_id, "tool": call.tool, "body": json.loads(body)})
    return JSONResponse({"found": []})


@pytest.fixture
async def port(verifier: Verifier) -> AsyncIterator[int]:
    REACHED.clear()
    notes = Starlette(routes=[Route("/{tool:path}", serve_notes, methods=["GET", "POST"])])
    guard = HttpGuard(notes, verifier, lambda scope, body: (scope["path"].strip("/"), body))
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(guard, log_config=None, lifespan="on", ws="none"))
    task = asyncio.create_task(server.serve([listener]))
    while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0.01)
    yield listener.getsockname()[1]
    server.should_exit = True
    await task
    listener.close()


@pytest.fixture
async def http(port: int) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
        yield client


def bearing(credential: str) -> dict[str, str]:
    return {"authorization": f"Bearer {credential}"}


async def test_a_good_request_reaches_the_application_whole(http: httpx.AsyncClient) -> None:
    answer = await http.post("/search_notes", headers=bearing(token()), json={"limit": 10})
    assert answer.status_code == 200
    assert REACHED == [{"lease": "l-1", "tool": "search_notes", "body": {"limit": 10}}]


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        ([], "Bearer"),
        ([("authorization", "Basic eDp5")], "Bearer"),
        ([("authorization", "Bearer a"), ("authorization", "Bearer b")], "Bearer"),
        ([("authorization", "Bearer not-a-token")], 'Bearer error="invalid_token"'),
    ],
)
async def test_without_a_good_token_it_is_401(
    http: httpx.AsyncClient, headers: list[tuple[str, str]], challenge: str
) -> None:
    answer = await http.post("/search_notes", headers=headers, json={"limit": 10})
    assert (answer.status_code, answer.json()["reason"]) == (401, "TOKEN_INVALID")
    assert answer.headers["www-authenticate"].startswith(challenge)
    assert answer.headers["content-type"] == "application/problem+json"
    assert REACHED == []


async def test_each_request_is_checked_also_on_a_connection_that_was_good(
    http: httpx.AsyncClient, verifier: Verifier
) -> None:
    credential = bearing(token())
    assert (await http.post("/search_notes", headers=credential, json={"limit": 1})).status_code == 200
    verifier.fresh_until(0)
    answer = await http.post("/search_notes", headers=credential, json={"limit": 1})
    assert (answer.status_code, answer.json()["reason"]) == (503, "VERIFIER_STALE")
    assert "www-authenticate" not in answer.headers


async def test_a_tool_that_is_not_granted_is_403_and_names_the_scope(http: httpx.AsyncClient) -> None:
    answer = await http.post("/delete_notes", headers=bearing(token()), json={})
    assert answer.status_code == 403
    assert answer.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="tool:delete_notes"'
    problem = answer.json()
    assert (problem["reason"], problem["missing"]) == ("TOOL_NOT_GRANTED", "tool:delete_notes")
    assert problem["message"]
    assert problem["next"]
    assert REACHED == []


@pytest.mark.parametrize("path", ["/x%22,%20error=%22y", "/a%0d%0aset-cookie:%20b=c", "/%C4%B0"])
async def test_a_path_cannot_write_into_the_challenge(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.post(path, headers=bearing(token()), json={})
    assert answer.status_code == 403
    assert answer.headers["www-authenticate"] == 'Bearer error="insufficient_scope"'
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("limit", ["10", "10.0", "1e1", "0.1E2"])
async def test_an_integer_is_one_however_it_is_written(http: httpx.AsyncClient, limit: str) -> None:
    answer = await http.post("/search_notes", headers=bearing(token()), content=f'{{"limit": {limit}}}'.encode())
    assert answer.status_code == 200


@pytest.mark.parametrize("limit", [0, 51, "10", True, 10.5, 51.0, 10**30, None, [10]])
async def test_an_argument_out_of_bounds_is_403(http: httpx.AsyncClient, limit: object) -> None:
    answer = await http.post("/search_notes", headers=bearing(token()), json={"limit": limit})
    assert (answer.status_code, answer.json()["reason"]) == (403, "ARGUMENT_OUT_OF_BOUNDS")
    assert REACHED == []


@pytest.mark.parametrize(
    "body",
    [
        b'{"limit": 10, "limit": 1000}',
        b'{"a": {"b": 1, "b": 2}, "limit": 10}',
        b'{"limit": NaN}',
        b'{"limit": 50.00000000000000000001}',
        b'{"limit": 0.99999999999999999999}',
        b'{"limit": 1e-99999999999999999999}',
        b'\xef\xbb\xbf{"limit": 10}',
        b'{"limit": 10',
        b'\xff\xfe{"limit": 10}',
        b"[" * 100_000,
        '{"limit": 10}'.encode("utf-16"),
    ],
)
async def test_a_body_that_two_parsers_may_read_differently_is_400(http: httpx.AsyncClient, body: bytes) -> None:
    answer = await http.post("/search_notes", headers=bearing(token()), content=body)
    assert (answer.status_code, answer.json()["reason"]) == (400, "INVALID_ARGUMENT")
    assert answer.json()["violations"][0]["field"] == "body"
    assert REACHED == []


async def test_a_body_that_is_too_large_is_413(http: httpx.AsyncClient) -> None:
    large = b'{"limit": 10, "x": "' + b"a" * (1024 * 1024) + b'"}'
    assert (await http.post("/search_notes", headers=bearing(token()), content=large)).status_code == 413
    assert REACHED == []


async def test_a_token_bound_to_a_workload_is_not_for_this_door(http: httpx.AsyncClient) -> None:
    answer = await http.post("/search_notes", headers=bearing(token(binding=Binding.IDENTITY)), json={"limit": 1})
    assert (answer.status_code, answer.json()["reason"]) == (403, "HOLDER_MISMATCH")
    assert "www-authenticate" not in answer.headers


async def test_half_a_request_is_no_request(port: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"POST /search_notes HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token(grants=(Grant('search_notes'),))}\r\n"
    )
    writer.write(f'{head}content-length: 30\r\n\r\n{{"limit": 10}}'.encode())
    await writer.drain()
    await asyncio.sleep(0.1)
    writer.close()
    await writer.wait_closed()
    await asyncio.sleep(0.1)
    assert REACHED == []


async def test_a_browser_that_asks_first_is_answered_without_a_credential(http: httpx.AsyncClient) -> None:
    asks = {"origin": "https://page.example", "access-control-request-method": "POST"}
    answer = await http.options("/search_notes", headers=asks)
    assert (answer.status_code, "access-control-allow-origin" in answer.headers) == (204, False)
    assert REACHED == []


async def test_websockets_are_closed(verifier: Verifier) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def never(*_: Any) -> Any:
        pytest.fail("must not be reached")

    guard = HttpGuard(never, verifier, lambda scope, body: ("search_notes", body))
    await guard({"type": "websocket", "path": "/search_notes", "headers": []}, never, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


@pytest.mark.parametrize(
    "path",
    ["/search_notes", "/a%20b", "/a%2Fb", "/K%C3%B6ln", "/user%40x.test", "/user@x.test", "/100%25", "/a b", "/Köln"],
)
async def test_a_proof_is_for_the_path_as_it_is_sent(http: httpx.AsyncClient, path: str) -> None:
    """What the SDK proves is what clients send and servers see, however much of it is encoded."""
    key = EcSigner.generate()
    bound = Secret(token(grants=ANYTHING, binding=Binding.DPOP, confirmation=key.kid))
    expires_at = system_clock() + timedelta(minutes=5)
    prover = Prover(key, system_clock, uuid7)
    credential = Credential(lease_id="l", resource=AUDIENCE, token=bound, expires_at=expires_at, prover=prover)
    http.headers["host"] = "notes.tools.example"
    answer = await http.post(path, headers=credential.headers("POST", AUDIENCE + path), json={})
    assert answer.json().get("reason") != "PROOF_INVALID", answer.text
    other = await http.post("/other", headers=credential.headers("POST", AUDIENCE + path), json={})
    assert other.json()["reason"] == "PROOF_INVALID"
