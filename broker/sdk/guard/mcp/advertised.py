"""What a server says of itself at the beginning, made true for one caller: what is let through, and its bounds."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

_LONGEST = 4_000  # characters, of what is added to the server's instructions
_METHODS = {
    "logging": "logging/setLevel",
    "prompts": "prompts/list",
    "resources": "resources/list",
    "completions": "completion/complete",
    "tasks": "tasks/get",
}
"""What clients call by themselves where a capability is advertised."""
_PARTS = {"subscribe": "resources/subscribe", "list": "tasks/list", "cancel": "tasks/cancel"}
_ALWAYS = ("tools", "experimental")


def is_introduction(result: Mapping[str, Any]) -> bool:
    """Report whether a result is that of `initialize` or of `server/discover`."""
    return isinstance(result.get("capabilities"), dict) and (
        "protocolVersion" in result or "supportedVersions" in result
    )


def advertised(result: Mapping[str, Any], tools: Collection[str], also: Collection[str]) -> dict[str, Any]:
    """Return an introduction with only such capabilities in it as have their methods let through.

    What the caller may call goes into the instructions, with the bounds if `tools` maps its names to them.
    """
    capabilities = {
        name: _parts(value, also)
        for name, value in result["capabilities"].items()
        if name in _ALWAYS or _METHODS.get(name) in also
    }
    listed = "; ".join(_tool(name, tools) for name in tools) or "none"
    granted = f"Tools that your credential grants: {listed}."
    granted = granted if len(granted) <= _LONGEST else granted[: _LONGEST - 1] + "…"
    instructions = result.get("instructions")
    text = f"{instructions}\n\n{granted}" if isinstance(instructions, str) and instructions else granted
    kept = {**result, "capabilities": capabilities, "instructions": text}
    if "cacheScope" in result:
        kept["cacheScope"] = "private"  # it is for this caller, whatever the server thought
    return kept


def _parts(capability: object, also: Collection[str]) -> object:
    if not isinstance(capability, dict):
        return capability
    return {name: part for name, part in capability.items() if name not in _PARTS or _PARTS[name] in also}


def _tool(name: str, tools: Collection[str]) -> str:
    bounds = tools.get(name) if isinstance(tools, Mapping) else ""
    return f"`{name}` ({bounds})" if bounds else f"`{name}`"
