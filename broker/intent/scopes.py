"""The names of tools and resources."""

from __future__ import annotations

from collections.abc import Iterable

from broker.model.errors import invalid
from broker.model.names import is_resource, is_tool


def check_tool(name: str, field: str) -> None:
    """Check a tool's name: 1 to 128 characters that are also good in an OAuth scope and for MCP.

    Raises:
        Refusal: INVALID_ARGUMENT.
    """
    if not is_tool(name):
        raise invalid(field, "must be 1 to 128 characters A-Z, a-z, 0-9, `_`, `.`, `-`")


def check_resource(uri: str, field: str) -> None:
    """Check a resource's URI (RFC 8707 section 2): absolute, with neither fragment nor user.

    Raises:
        Refusal: INVALID_ARGUMENT.
    """
    if not is_resource(uri):
        raise invalid(
            field, "must be an absolute URI in ASCII, without fragment or user, such as https://tools.example"
        )


def scope_of(tools: Iterable[str]) -> str:
    """Return the OAuth scope for tools: `tool:a tool:b`."""
    return " ".join(f"tool:{tool}" for tool in tools)
