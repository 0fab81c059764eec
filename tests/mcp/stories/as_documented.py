"""Serves the `app` of an example of the documentation as it stands there. Arguments: FILE URL ISSUER."""

from __future__ import annotations

import asyncio
import runpy
import sys
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import uvicorn

from broker.cli.demo.lines import converse
from broker.sdk import Endpoint, watching


def search_notes(about: str, limit: int = 10) -> str:
    return f"{limit} notes on {about}"


def add_note(text: str) -> str:
    return f"noted: {text}"


async def main(file: str, url: str, _issuer: str) -> None:
    example = runpy.run_path(file)
    endpoint = Endpoint.of()
    async with AsyncExitStack() as stack:
        if "lifespan" not in example:  # it is about something else, and leaves out what the first one shows
            await stack.enter_async_context(watching(example["verifier"], endpoint))
            example["notes"].tool()(search_notes)
        example["notes"].tool()(add_note)
        config = uvicorn.Config(
            example["app"],
            port=urlsplit(url).port or 443,
            ssl_certfile=endpoint.svid_dir / "svid.pem",
            ssl_keyfile=endpoint.svid_dir / "key.pem",
            log_level="warning",
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not (server.started or serving.done()):  # noqa: ASYNC110 (uvicorn has no event for it)
            await asyncio.sleep(0.01)
        await converse({})
        server.should_exit = True
        await serving


asyncio.run(main(*sys.argv[1:]))
