"""The longest token that the broker issues gets through the headers of every guard, beside the longest proof."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from broker.credential import jose
from broker.credential.jose import LONGEST_ISSUED
from broker.credential.keys import EcSigner
from broker.model.grant import Constraint, Grant, Operator
from broker.model.lease import Binding
from broker.sdk.client.possession import Prover
from broker.sdk.connect.connection import connect
from broker.sdk.guard.grpc import GrpcGuard
from broker.sdk.guard.http import HttpGuard
from broker.sdk.guard.mcp.http import McpGuard
from broker.sdk.verify.verifier import Verifier
from broker.system import system_clock, uuid7
from tests.support.credentials import believing, good_now
from tests.support.fakes import authority, server_credentials, write_svid

SIGNER, HOLDER = EcSigner.generate(), EcSigner.generate()
AUDIENCE = f"https://{'r' * 484}.tools.example"
PROVER = Prover(HOLDER, system_clock, uuid7)
PATH = f"/acme.Repo/{'M' * 100}"


def verifier(audience: str) -> Verifier:
    return believing(SIGNER, Verifier(audience))


def longest(audience: str, tool: str = "release") -> str:
    """Make a token of exactly the longest size, or the few bytes less that base64url leaves."""
    token = ""
    for letters in range(LONGEST_ISSUED):
        texts = [1_000] * (letters // 1_000) + [letters % 1_000]
        grants = (Grant(tool, tuple(Constraint("/never", Operator.EQ, ("y" * size,)) for size in texts)), Grant("t"))
        claims = replace(
            good_now(audience, grants, Binding.DPOP),
            lease_id=uuid7(),
            task_id=uuid7(),
            index=2**37,
            confirmation=HOLDER.kid,
        )
        size = jose.unsigned(claims, SIGNER).size
        if size > LONGEST_ISSUED:
            break
        if size > LONGEST_ISSUED - 3:
            token = jose.encode(claims, SIGNER)
    assert len(token) > LONGEST_ISSUED - 3
    return token


async def test_it_passes_a_grpc_guard_every_time(tmp_path: Path) -> None:
    async def answer(request: bytes, context: object) -> bytes:
        return b"reached"

    root = authority()
    server = grpc.aio.server(interceptors=[GrpcGuard(verifier(AUDIENCE), tool=lambda method: "t")])
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("acme.Repo", {PATH.rpartition("/")[2]: handler}),)
    )
    port = server.add_secure_port(
        "localhost:0", server_credentials(write_svid(tmp_path / "server", root, "spiffe://example.org/tool"))
    )
    await server.start()
    token = longest(AUDIENCE)
    async with connect(f"localhost:{port}", write_svid(tmp_path / "agent", root, "spiffe://example.org/a")) as channel:
        for _ in range(40):  # gRPC turns a part of what is above its soft limit away, at random
            proof = PROVER.prove("POST", AUDIENCE + PATH, token=token)
            metadata = (("authorization", f"DPoP {token}"), ("dpop", proof))
            call: Any = channel.unary_unary(PATH)
            assert await call(b"", metadata=metadata, timeout=60) == b"reached"
    await server.stop(None)


async def answer_http(request: Request) -> PlainTextResponse:
    return PlainTextResponse("reached")


async def test_it_passes_the_http_guards() -> None:
    app = Starlette(routes=[Route("/{path:path}", answer_http, methods=["POST"])])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        guards: dict[str, Any] = {
            "/http": HttpGuard(app, verifier(f"{url}/http"), lambda scope, body: ("t", body)),
            "/mcp": McpGuard(app, verifier(f"{url}/mcp"), authorization_servers=["https://broker.example"]),
        }

        async def routed(scope: Any, receive: Any, send: Any) -> None:
            await guards[scope["path"]](scope, receive, send)

        server = uvicorn.Server(uvicorn.Config(routed, log_config=None, lifespan="off", ws="none"))
        serving = asyncio.create_task(server.serve([listener]))
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as client:
            for path in guards:
                token = longest(url + path)
                headers = {
                    "authorization": f"DPoP {token}",
                    "dpop": PROVER.prove("POST", url + path, token=token),
                    "content-type": "application/json",
                    "accept": "application/json, text/event-stream",
                }
                call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "t", "arguments": {}}}
                body = json.dumps(call if path == "/mcp" else {})
                found = await client.post(path, headers=headers, content=body)
                assert (found.status_code, found.text) == (200, "reached")
        server.should_exit = True
        await serving
