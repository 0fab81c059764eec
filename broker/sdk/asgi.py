"""Guards an HTTP server: a gate in front of any ASGI application, that needs no framework.

For example ``Gate(app, verifier, route=lambda scope, body: (scope["path"].strip("/"), body))``. ASGI does not tell who
the TLS peer is, so only credentials that are bound to nobody (`binding` "bearer") pass here.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from broker.model import strict_json
from broker.model.errors import Hints, Reason, Refusal, invalid
from broker.sdk.verifier import Verifier
from broker.wire.codes import http_status

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Route = Callable[[Scope, object], tuple[str, object]]

_LARGEST_BODY = 1024 * 1024
_TOO_LARGE = 413
_UNAUTHORIZED = 401
_SCHEME = b"bearer "
_HEADER = "Authorization"
_BEYOND_THE_TOKEN = (Reason.TOOL_NOT_GRANTED, Reason.ARGUMENT_OUT_OF_BOUNDS)


@dataclass(frozen=True, slots=True)
class Gate:
    """Lets a request through to `app` if the verifier does.

    `route` gives the tool and the arguments of a request, from its scope and its body as parsed JSON (None if it is
    empty). It may refuse with `broker.model.errors.Refusal`. The call is at `scope["credbroker"]` for the application.
    """

    app: App
    verifier: Verifier
    route: Route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request. WebSockets are closed: their messages cannot be checked here."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008, "reason": "not guarded"})
            return
        try:
            token = _bearer(scope)
            body = await _read(receive)
            tool, arguments = self.route(scope, _parse(body))
            scope["credbroker"] = self.verifier.check(token, tool, arguments)
        except Refusal as refusal:
            await _answer(send, http_status(refusal.reason), refusal)
        except _TooLarge:
            await _answer(send, _TOO_LARGE, Refusal(Reason.INVALID_ARGUMENT, "the body is larger than 1 MiB"))
        except _Disconnected:
            return  # half a request is none, and nobody waits for an answer
        else:
            await self.app(scope, _replay(body, receive), send)


class _TooLarge(Exception):
    """The body is larger than is read."""


class _Disconnected(Exception):
    """The client has gone before its request was whole."""


def _bearer(scope: Scope) -> str:
    values = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(values) != 1 or values[0][: len(_SCHEME)].lower() != _SCHEME:
        raise Refusal(
            Reason.TOKEN_INVALID,
            "the request does not carry exactly one credential",
            Hints(missing=_HEADER, next="send the header `Authorization: Bearer TOKEN`, once"),
        )
    return str(values[0][len(_SCHEME) :].strip(), "latin-1")


async def _read(receive: Receive) -> bytes:
    """Read the body whole."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Disconnected
        body += message.get("body", b"")
        if len(body) > _LARGEST_BODY:
            raise _TooLarge
        if not message.get("more_body", False):
            return bytes(body)


def _parse(body: bytes) -> object:
    """Parse strict JSON; None if there is none."""
    if not body:
        return None
    try:
        return strict_json.parse(body, fractions=True)
    except ValueError as error:
        raise invalid("body", "must be strict JSON in UTF-8, each member once") from error


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give the application the body that was read, then what comes after it."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _answer(send: Send, status: int, refusal: Refusal) -> None:
    """Refuse with a problem (RFC 9457) of the same fields as everywhere, and a challenge where one is due."""
    problem = {
        "status": status,
        "reason": refusal.reason.value,
        "message": refusal.message,
        **refusal.hints.metadata(),
        "violations": [{"field": v.field, "description": v.description} for v in refusal.violations],
    }
    body = json.dumps(problem).encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    challenge = _challenge(status, refusal)
    if challenge:
        headers.append((b"www-authenticate", challenge.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _challenge(status: int, refusal: Refusal) -> str:
    """Say what the client needs, where it can do something about it (RFC 6750 section 3)."""
    if refusal.hints.missing == _HEADER:
        return "Bearer"
    if status == _UNAUTHORIZED:
        return 'Bearer error="invalid_token"'
    if refusal.reason is Reason.TOOL_NOT_GRANTED and refusal.hints.missing:
        return f'Bearer error="insufficient_scope", scope="{refusal.hints.missing}"'
    return 'Bearer error="insufficient_scope"' if refusal.reason in _BEYOND_THE_TOKEN else ""
