"""Serves an MCP application of the demo behind the guard, over TLS."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import uvicorn

from broker.cli.demo.lines import converse
from broker.sdk import Endpoint, McpGuard, Verifier, watching
from broker.sdk.guard.http_request import App


async def serve(app: App, url: str, issuer: str) -> None:
    """Serve at a URL until the demo is over; the broker and the SVID come from the environment."""
    endpoint = Endpoint.of()
    async with watching(Verifier(url), endpoint) as verifier:
        server = uvicorn.Server(
            uvicorn.Config(
                McpGuard(app, verifier, authorization_servers=[issuer]),
                port=urlsplit(url).port or 443,
                ssl_certfile=endpoint.svid_dir / "svid.pem",
                ssl_keyfile=endpoint.svid_dir / "key.pem",
                log_level="warning",
            )
        )
        serving = asyncio.create_task(server.serve())
        while not (server.started or serving.done()):  # noqa: ASYNC110 (uvicorn has no event for it)
            await asyncio.sleep(0.01)
        await converse({})
        server.should_exit = True
        await serving
