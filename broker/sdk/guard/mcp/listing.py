"""The tools that a server lists, and of them those that a caller may call: in JSON, and in a stream of events.

Where `tools` maps the names of those to the bounds of their arguments in words, these stand in the descriptions. What a
server says of itself is made true on the same way; `also` are methods that any credential may use.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from broker.model import strict_json
from broker.sdk.guard.http_request import Message, Send, respond
from broker.sdk.guard.mcp.advertised import advertised, is_introduction

_LARGEST = 16 * 1024 * 1024  # of an answer or an event, as it has to be read whole
_BAD_GATEWAY = 502
_REDIRECTION = 300
_END = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")
_LONGEST_END = 4
_LINE = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def only_granted(result: dict[str, Any], tools: Collection[str]) -> dict[str, Any]:
    """Return the result of `tools/list` with only such tools in it.

    Raises:
        ValueError: it does not list tools.
    """
    listed = result.get("tools")
    if not isinstance(listed, list) or not all(isinstance(tool, dict) for tool in listed):
        raise ValueError("it does not list tools")
    kept = {**result, "tools": [_with_bounds(tool, tools) for tool in listed if _name_of(tool) in tools]}
    if "cacheScope" in result:
        kept["cacheScope"] = "private"  # it is this caller's list, whatever the server thought
    return kept


def _name_of(tool: dict[str, Any]) -> str:
    name = tool.get("name")
    return name if isinstance(name, str) else ""


def _with_bounds(tool: dict[str, Any], tools: Collection[str]) -> dict[str, Any]:
    described = with_bounds(tool.get("description"), _name_of(tool), tools)
    return tool if described is None else {**tool, "description": described}


def with_bounds(description: object, tool: str, tools: Collection[str]) -> str | None:
    """Return the description of a tool with the bounds of its arguments; None, if there are none to tell."""
    bounds = tools.get(tool) if isinstance(tools, Mapping) else ""
    if not bounds:
        return None
    own = f"{description}\n\n" if isinstance(description, str) and description else ""
    return f"{own}Your credential's bounds for its arguments: {bounds}."


def filtered(data: bytes, tools: Collection[str], also: Collection[str] = ()) -> bytes:
    """Filter an answer, or a batch of them. What shows no tools stays as it is, byte for byte.

    Raises:
        ValueError: it cannot be read.
    """
    document = strict_json.parse(data, fractions=True, halves=True)
    if isinstance(document, list):
        kept: Any = [_filtered(entry, tools, also) for entry in document]
    else:
        kept = _filtered(document, tools, also)
    return data if kept == document else json.dumps(kept, allow_nan=False, separators=(",", ":")).encode()


def _filtered(entry: object, tools: Collection[str], also: Collection[str]) -> object:
    """Filter one message. What it answers is not asked: a stream may bring the answer to another request."""
    if not isinstance(entry, dict):
        raise ValueError("it is not a message")  # noqa: TRY004 (like all that cannot be read)
    result = entry.get("result")
    if isinstance(result, dict) and "tools" in result:
        return {**entry, "result": only_granted(result, tools)}
    if isinstance(result, dict) and is_introduction(result):
        return {**entry, "result": advertised(result, tools, also)}
    return entry


class Events:
    """Filters a stream of server-sent events (HTML Standard, 9.2.6), piece by piece as it comes."""

    def __init__(self, tools: Collection[str], also: Collection[str] = ()) -> None:
        """Begin a stream."""
        self._tools = tools
        self._also = also
        self._rest = bytearray()
        self._begun = False
        self._searched = 0  # up to where no event ends in what is left

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Return the events that are whole now. No byte is looked at twice, however small the pieces are.

        Raises:
            ValueError: one cannot be read, or is too large.
        """
        self._rest += piece
        if not self._begun:
            if len(self._rest) < len(_BYTE_ORDER_MARK):
                return
            self._begun = True
            if self._rest.startswith(_BYTE_ORDER_MARK):
                del self._rest[: len(_BYTE_ORDER_MARK)]
        start = 0
        while end := _END.search(self._rest, max(start, self._searched)):
            event, start = bytes(self._rest[start : end.end()]), end.end()
            yield self._event(event)
        del self._rest[:start]
        self._searched = max(0, len(self._rest) - _LONGEST_END + 1)
        if len(self._rest) > _LARGEST:
            raise ValueError("an event is too large")

    def _event(self, event: bytes) -> bytes:
        """Filter an event; what stands beside its data (its id, say) stays."""
        fields = [line.partition(b":") for line in _LINE.split(event)]
        values = {name: value.removeprefix(b" ") for name, _, value in fields}
        data = b"\n".join(value.removeprefix(b" ") for name, _, value in fields if name == b"data")
        # Clients take messages from no other kind of event, and one without data only says how far the stream is.
        if not data or values.get(b"event", b"message") not in (b"message", b""):
            return event
        kept = filtered(data, self._tools, self._also)
        if kept is data:
            return event
        others = [b"".join(field) for field in fields if field[0] not in (b"data", b"")]
        return b"\r\n".join([*others, b"data: " + kept, b"", b""])


class Listing:
    """Sends an application's answer on, filtered; as a `Send` of ASGI.

    An answer that cannot be read is replaced by `unreadable`. Before each piece of a stream `goes_on` is asked; if it
    says no the stream ends.
    """

    def __init__(
        self,
        send: Send,
        tools: Collection[str],
        unreadable: bytes,
        goes_on: Callable[[], bool],
        *,
        also: Collection[str] = (),
    ) -> None:
        """Make one for one answer."""
        self._send = send
        self._tools = tools
        self._also = also
        self._unreadable = unreadable
        self._goes_on = goes_on
        self._start: Message = {}
        self._body = bytearray()
        self._events: Events | None = None
        self._over = False

    async def __call__(self, message: Message) -> None:
        """Take a message of the application; those that are neither start nor body are extensions, and are dropped."""
        if message["type"] == "http.response.start":
            self._start = message
            if self._content_type() == "text/event-stream":
                self._events = Events(self._tools, self._also)
                await self._send(message)
        elif message["type"] == "http.response.body" and not self._over:
            piece, more = message.get("body", b""), message.get("more_body", False)
            await (self._whole if self._events is None else self._stream)(piece, more)

    async def _whole(self, piece: bytes, more: bool) -> None:  # noqa: FBT001 (as in the message)
        self._body += piece
        if more and len(self._body) <= _LARGEST:
            return
        self._over = True
        body, start = bytes(self._body), self._start
        if body and (self._content_type() == "application/json" or start["status"] < _REDIRECTION):
            try:
                if more:
                    raise ValueError("an answer is too large")  # noqa: TRY301 (one answer to all of them)
                body = filtered(body, self._tools, self._also)
            except ValueError:
                await respond(self._send, _BAD_GATEWAY, "application/json", self._unreadable, {})
                return
        headers = [(name, value) for name, value in start.get("headers", ()) if name.lower() != b"content-length"]
        await self._send({**start, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
        await self._send({"type": "http.response.body", "body": body})

    async def _stream(self, piece: bytes, more: bool) -> None:  # noqa: FBT001 (as in the message)
        events = self._events or Events(self._tools, self._also)
        if not self._goes_on():
            await self._finish(b"")
            return
        try:
            for event in events.feed(piece):
                await self._send({"type": "http.response.body", "body": event, "more_body": True})
        except ValueError:
            await self._finish(b"data: " + self._unreadable + b"\r\n\r\n")
            return
        if not more:
            await self._finish(b"")  # what is left is no event

    async def _finish(self, last: bytes) -> None:
        self._over = True
        await self._send({"type": "http.response.body", "body": last})

    def _content_type(self) -> str:
        headers = self._start.get("headers", ())
        values = [value for name, value in headers if name.lower() == b"content-type"]
        return str(values[0], "latin-1").partition(";")[0].strip().lower() if values else ""
