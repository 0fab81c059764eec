"""The demo's second tool server: HTTP over TLS behind the guard, where a bearer credential is good."""

from __future__ import annotations

import asyncio
import socket

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from broker.cli.demo.lines import converse
from broker.sdk import Endpoint, HttpGuard, Verifier, watching
from broker.sdk.guard.http_request import Scope

RESOURCE = "https://notes.tools.example"


async def _search_notes(request: Request) -> JSONResponse:
    return JSONResponse({"result": f"notes on {(await request.json())['about']}"})


async def _add_note(_request: Request) -> JSONResponse:
    return JSONResponse({"result": "noted"})


def _tool_and_arguments(scope: Scope, body: object) -> tuple[str, object]:
    return str(scope["path"]).strip("/"), body


async def main() -> None:
    """Serve until the demo is over; the broker and the SVID come from the environment."""
    endpoint = Endpoint.of()
    tools = (_search_notes, _add_note)
    notes = Starlette(routes=[Route(f"/{tool.__name__.strip('_')}", tool, methods=["POST"]) for tool in tools])
    listener = socket.create_server(("127.0.0.1", 0))
    async with watching(Verifier(RESOURCE), endpoint) as verifier:
        server = uvicorn.Server(
            uvicorn.Config(
                HttpGuard(notes, verifier, _tool_and_arguments),
                ssl_certfile=endpoint.svid_dir / "svid.pem",
                ssl_keyfile=endpoint.svid_dir / "key.pem",
                lifespan="off",
                log_level="warning",
            )
        )
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await converse({}, address=f"https://localhost:{listener.getsockname()[1]}")
        server.should_exit = True
        await serving


if __name__ == "__main__":
    asyncio.run(main())
