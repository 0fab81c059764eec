"""What names look like: one grammar for each kind, whoever writes or reads it."""

from __future__ import annotations

import re

_TOOL = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_RESOURCE = re.compile(
    r"(?=.{1,512}\Z)[a-z][a-z0-9+.-]{0,30}://[A-Za-z0-9._~:\[\]!$&'()*+,;=%-]+"
    r"([/?][A-Za-z0-9._~:/?\[\]!$&'()*+,;=%-]*)?"
)
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def is_tool(text: str) -> bool:
    """Report whether it can be a tool's name: 1 to 128 characters that are also good in an OAuth scope and for MCP."""
    return _TOOL.fullmatch(text) is not None


def is_resource(text: str) -> bool:
    """Report whether it can be a tool server's URI (RFC 8707 section 2): absolute, with neither fragment nor user."""
    return _RESOURCE.fullmatch(text) is not None


def is_id(text: str) -> bool:
    """Report whether it can be the id of a task, lease or lock: a UUID, as this broker makes them (RFC 9562)."""
    return _ID.fullmatch(text) is not None
