"""What a client posts to an MCP server: JSON-RPC messages, read so that no server can read them otherwise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from broker.model.errors import Refusal, invalid
from broker.sdk import http_request
from broker.sdk.http_request import Scope
from broker.sdk.mcp import methods

_CONTENT_TYPES = ("application/json", "application/json;charset=utf-8")


@dataclass(frozen=True, slots=True)
class Message:
    """A request, or a notification if `id` is None. What answers a request of the server's has no method."""

    method: str = ""
    id: str | int | None = None
    params: object = None


@dataclass(frozen=True, slots=True)
class Post:
    """The messages of one body; several if it is a batch (MCP 2025-03-26)."""

    messages: Sequence[Message] = ()
    batch: bool = False

    def asks(self) -> bool:
        """Tell whether somebody waits for an answer to one of the messages."""
        return any(message.id is not None for message in self.messages)

    def lists(self) -> bool:
        """Tell whether the answer may list tools."""
        return any(message.method == methods.LIST for message in self.messages)

    def tools(self) -> list[str]:
        """Name the tools that are called."""
        return [methods.tool_of(message.params) for message in self.messages if message.method == methods.CALL]

    def answer(self, refusal: Refusal) -> bytes:
        """Give the body that answers each request with the refusal."""
        error = methods.error_of(refusal)
        asking: list[str | int | None] = [message.id for message in self.messages if message.id is not None]
        answers = [{"jsonrpc": "2.0", "id": identity, "error": error} for identity in asking or [None]]
        return json.dumps(answers if self.batch and asking else answers[0]).encode()


def read(scope: Scope, body: bytes) -> Post:
    """Read the body of a request.

    Raises:
        Refusal: INVALID_ARGUMENT.
    """
    if scope["method"] in ("GET", "DELETE") and not body:
        return Post()
    if scope["method"] != "POST":
        raise invalid("method", "must be POST; or GET or DELETE, without a body")
    _check_form(scope)
    document = http_request.parse(body)
    _check_names(document)
    if isinstance(document, list) and document:
        return Post([_message(entry) for entry in document], batch=True)
    return Post([_message(document)])


def check_headers(scope: Scope, post: Post) -> None:
    """Check that the headers which repeat a message say the same as the body, as a server may go by them.

    Raises:
        Refusal: INVALID_ARGUMENT.
    """
    named = {message.method for message in post.messages if message.method}
    for header, told in (("mcp-method", named), ("mcp-name", set(post.tools()))):
        # Names that a credential grants need no encoding in a header.
        for value in http_request.header_values(scope, header.encode()):
            if told and told != {value}:
                raise invalid(header, "must say the same as the body")


def _check_form(scope: Scope) -> None:
    """Refuse what a server may decode into other text than we did (UTF-7, say)."""
    types = http_request.header_values(scope, b"content-type")
    if len(types) != 1 or types[0].lower().replace(" ", "").replace('"', "") not in _CONTENT_TYPES:
        raise invalid("content-type", "must be application/json, in UTF-8")
    if http_request.header_values(scope, b"content-encoding"):
        raise invalid("content-encoding", "is not supported")


def _check_names(document: object) -> None:
    """Refuse members that differ only in case: some parsers (Go's) take them for the same, and the last one counts."""
    rest = [document]
    while rest:
        value = rest.pop()
        if isinstance(value, list):
            rest += value
        elif isinstance(value, dict):
            if len({name.casefold() for name in value}) != len(value):
                raise invalid("body", "must not have members that differ only in case")
            rest += value.values()


def _message(entry: object) -> Message:
    if not isinstance(entry, dict):
        raise invalid("body", "must be a JSON-RPC message, or a list of such")
    if "method" not in entry:
        if "result" in entry or "error" in entry:
            return Message()
        raise invalid("method", "is missing")
    method, identity = entry["method"], entry.get("id")
    if not isinstance(method, str):
        raise invalid("method", "must be a text")
    if "id" in entry and (not isinstance(identity, (str, int)) or isinstance(identity, bool)):
        raise invalid("id", "must be a text or a whole number")
    return Message(method, identity, _params(entry))


def _params(entry: dict[str, Any]) -> object:
    params = entry.get("params")
    if params is not None and not isinstance(params, dict):
        raise invalid("params", "must be an object")
    return params
