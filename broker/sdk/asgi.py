"""Guards an HTTP server: a gate in front of any ASGI application, that needs no framework.

    app = Gate(app, verifier, route=lambda scope, body: (scope["path"].strip("/"), body))
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, NoReturn

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
_FORBIDDEN = 403
_SCHEME = b"bearer "
_OAUTH_ERRORS = {_UNAUTHORIZED: "invalid_token", _FORBIDDEN: "insufficient_scope"}  # RFC 6750 section 3.1


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
        body = await _read(receive)
        if body is None:
            await _answer(send, _TOO_LARGE, Refusal(Reason.INVALID_ARGUMENT, "the body is larger than 1 MiB"))
            return
        try:
            token = _bearer(scope)
            tool, arguments = self.route(scope, _parse(body))
            scope["credbroker"] = self.verifier.check(token, tool, arguments)
        except Refusal as refusal:
            await _answer(send, http_status(refusal.reason), refusal)
            return
        await self.app(scope, _replay(body, receive), send)


def _bearer(scope: Scope) -> str:
    values = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(values) != 1 or values[0][: len(_SCHEME)].lower() != _SCHEME:
        raise Refusal(
            Reason.TOKEN_INVALID,
            "the request carries no credential",
            Hints(missing="Authorization", next="send the header `Authorization: Bearer TOKEN`, once"),
        )
    return str(values[0][len(_SCHEME) :].strip(), "latin-1")


async def _read(receive: Receive) -> bytes | None:
    """Read the body whole; None if it is too large."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > _LARGEST_BODY:
            return None
        if not message.get("more_body", False):
            return body


def _parse(body: bytes) -> object:
    """Parse JSON of the kind that two parsers cannot read differently; None if there is none."""
    if not body:
        return None
    try:
        return json.loads(body.decode(), object_pairs_hook=_unique, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise invalid("body", "must be strict JSON in UTF-8, each member once") from error


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        msg = "a member is there twice"
        raise ValueError(msg)
    return members


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)


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
    """Refuse, with the same fields as everywhere (RFC 9457), and a challenge where one is due (RFC 6750)."""
    problem = {
        "status": status,
        "title": refusal.message,
        "reason": refusal.reason.value,
        **refusal.hints.metadata(),
        "violations": [{"field": v.field, "description": v.description} for v in refusal.violations],
    }
    headers = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store")]
    if error := _OAUTH_ERRORS.get(status):
        scope = f', scope="{refusal.hints.missing}"' if refusal.reason is Reason.TOOL_NOT_GRANTED else ""
        headers.append((b"www-authenticate", f'Bearer error="{error}"{scope}'.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(problem).encode()})
