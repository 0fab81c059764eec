"""The MCP server of the story, made with FastMCP. Arguments: URL ISSUER."""

from __future__ import annotations

import asyncio
import sys

from fastmcp import FastMCP

from broker.cli.demo.guarded import serve

notes = FastMCP("notes")


@notes.tool
def search_notes(about: str, limit: int = 10) -> str:
    return f"{limit} notes on {about}"


@notes.tool
def add_note(text: str) -> str:
    return f"noted: {text}"


@notes.tool
def delete_notes() -> str:
    return "there are no notes any more"


asyncio.run(serve(notes.http_app(), *sys.argv[1:]))
