"""What a client posts to an MCP server: JSON-RPC messages, read so that no server can read them otherwise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from broker.model.errors import Refusal, invalid
from broker.model.spellings import are_distinct
from broker.sdk.guard import http_request
from broker.sdk.guard.http_request import Scope
from broker.sdk.guard.mcp import methods

_REQUEST = frozenset({"jsonrpc", "id", "method", "params"})
_RESPONSES = (frozenset({"jsonrpc", "id", "result"}), frozenset({"jsonrpc", "id", "error"}))
_MOST_IN_BATCH = 64
_CONTENT_TYPES = ("application/json", "application/json;charset=utf-8")


@dataclass(frozen=True, slots=True)
class Message:
    """A request, or a notification if `id` is None; or what answers a request of the server's, with its id."""

    method: str = ""
    id: str | int | None = None
    params: object = None
    answers: bool = False


@dataclass(frozen=True, slots=True)
class Post:
    """The messages of one body; several if it is a batch (MCP 2025-03-26)."""

    messages: Sequence[Message] = ()
    batch: bool = False

    def asks(self) -> bool:
        """Report whether somebody waits for an answer to one of the messages."""
        return bool(self._asking())

    def shows(self) -> bool:
        """Report whether the answer may show what there is: tools, or capabilities."""
        return any(message.method in methods.SHOWING for message in self.messages)

    def tools(self) -> list[str]:
        """Name the tools that are called."""
        return [methods.tool_of(message.params) for message in self.messages if message.method == methods.CALL]

    def answer(self, refusal: Refusal) -> bytes:
        """Return the body that answers each request with the refusal."""
        error = methods.error_of(refusal)
        asking = self._asking()
        answers = [{"jsonrpc": "2.0", "id": identity, "error": error} for identity in asking or [None]]
        return json.dumps(answers if self.batch and asking else answers[0]).encode()

    def _asking(self) -> list[str | int | None]:
        return [message.id for message in self.messages if message.id is not None and not message.answers]


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
    if isinstance(document, list) and document:
        if len(document) > _MOST_IN_BATCH:
            raise invalid("body", f"must be at most {_MOST_IN_BATCH} messages")
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


def _message(entry: object) -> Message:
    """Read a message, which is either a request or a response, by its members: their names are known, and exact."""
    if not isinstance(entry, dict):
        raise invalid("body", "must be a JSON-RPC message, or a list of such")
    members = frozenset(entry)
    if entry.get("jsonrpc") != "2.0":
        raise invalid("jsonrpc", 'must be "2.0"')
    if members in _RESPONSES:
        return Message(id=_id(entry["id"]), answers=True)
    if "method" not in members or not members <= _REQUEST:
        raise invalid("body", "must be a request (jsonrpc, id, method, params), or a response (jsonrpc, id, result)")
    method = entry["method"]
    if not isinstance(method, str):
        raise invalid("method", "must be a text")
    return Message(method, _id(entry["id"]) if "id" in members else None, _params(entry))


def _id(value: object) -> str | int:
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        raise invalid("id", "must be a text or a whole number")
    return value


def _params(entry: dict[str, Any]) -> object:
    params = entry.get("params")
    if params is None:
        return None
    if not isinstance(params, dict):
        raise invalid("params", "must be an object")
    meta = params.get("_meta", {})
    if not isinstance(meta, dict):
        raise invalid("params._meta", "must be an object")
    for field, members in (("params", params), ("params._meta", meta)):
        if not are_distinct(members):
            raise invalid(field, "must not have a member in two spellings, as some servers read names in any case")
    return params
