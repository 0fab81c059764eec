"""What guards of HTTP servers share: a request's credential and body, and the answer that refuses it (ASGI)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlsplit

from broker.credential import dpop
from broker.model import strict_json
from broker.model.errors import Reason, Refusal, invalid
from broker.sdk.guard.presented import HTTP, presented
from broker.sdk.verify.presentation import TOKEN_ALONE, Presentation
from broker.wire.codes import http_status

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

ANY_ORIGIN: Mapping[str, str] = {"access-control-allow-origin": "*"}
_NO_CONTENT = 204
_TOO_SLOW, _TOO_LARGE = 408, 413
_UNAUTHORIZED = 401
_LARGEST_EXACT = 2**53
_IN_PATHS = "/:@!$&'()*+,;="  # RFC 3986 section 3.3
_ERRORS: Mapping[Reason, str] = {
    Reason.TOOL_NOT_GRANTED: "insufficient_scope",
    Reason.ARGUMENT_OUT_OF_BOUNDS: "insufficient_scope",
    Reason.PROOF_INVALID: "invalid_dpop_proof",
    Reason.PROOF_NONCE_REQUIRED: "use_dpop_nonce",
}


BODY_WITHIN = timedelta(seconds=30)
"""How long a body may take, from its first byte to its last, where a guard is not told otherwise."""


@dataclass(eq=False)
class Unread(Exception):
    """The body is not read to its end: it is too large, or too slow. What to answer with."""

    status: int
    refusal: Refusal
    headers: Mapping[str, str]


class Disconnected(Exception):
    """The client has gone before its request was whole, and nobody waits for an answer."""


def credential(scope: Scope, resource: str) -> tuple[str, Presentation]:
    """Return a request's one token, and its presentation: with a DPoP proof, if it came as such.

    A proof is for the URL as clients know it: the origin of the resource's URI, and the request's path as it was sent.

    Raises:
        Refusal: TOKEN_INVALID, PROOF_INVALID.
    """
    token, proof = presented(HTTP, lambda name: header_values(scope, name.encode()))
    if not proof:
        return token, TOKEN_ALONE
    parts = urlsplit(resource)
    url = f"{parts.scheme}://{parts.netloc}{_path_as_sent(scope)}"
    return token, Presentation(proof=proof, method=scope["method"], url=url)


def _path_as_sent(scope: Scope) -> str:
    """Return the path as it was before it was decoded; where a server does not keep it (`raw_path`), as is usual."""
    raw = scope.get("raw_path")
    if raw is None:
        return quote(scope["path"], safe=_IN_PATHS)
    return str(raw, "latin-1").partition("?")[0]


def is_preflight(scope: Scope) -> bool:
    """Report whether a browser asks if a page of another origin may send a request (CORS, in the Fetch Standard).

    It asks without credentials, always.
    """
    names = (b"origin", b"access-control-request-method")
    return scope["method"] == "OPTIONS" and all(header_values(scope, name) for name in names)


async def answer_preflight(send: Send, permission: Mapping[str, str] = MappingProxyType({})) -> None:
    """Answer a browser. Without permission it sends no request: that is for who knows the origins, in front of here."""
    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in permission.items()]
    await send({"type": "http.response.start", "status": _NO_CONTENT, "headers": pairs})
    await send({"type": "http.response.body", "body": b""})


async def read(receive: Receive, largest: int, within: timedelta) -> bytes:
    """Read a body whole. Whoever sends it decides how long that takes, so what was true before may be so no more.

    Raises:
        Unread, Disconnected: there is none to go on with.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(within.total_seconds()):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Disconnected
                body += message.get("body", b"")
                if len(body) > largest:
                    raise _unread(_TOO_LARGE, f"is larger than {largest // 1024} KiB")
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise _unread(_TOO_SLOW, f"did not come whole within {within.total_seconds():g} seconds") from None


def _unread(status: int, what: str) -> Unread:
    # Who is slow is hung up on; who sends too much has no ear for an answer then, and reads it at the end.
    headers = {"connection": "close"} if status == _TOO_SLOW else {}
    return Unread(status, Refusal(Reason.INVALID_ARGUMENT, f"the body {what}"), headers)


def parse(body: bytes) -> object:
    """Parse a body as strict JSON; None if there is none.

    Raises:
        Refusal: INVALID_ARGUMENT.
    """
    if not body:
        return None
    try:
        return strict_json.parse(body, fractions=True, fraction=_fraction)
    except ValueError as error:
        raise invalid("body", f"must be strict JSON in UTF-8, each member once: {error}") from error


def _fraction(text: str) -> float:
    """Read a number with a fraction or an exponent; none that is whole in a double, and not where digits are kept."""
    number = float(text)
    if number.is_integer() and abs(number) <= _LARGEST_EXACT:
        try:
            exact = Decimal(text) == int(number)
        except InvalidOperation:  # an exponent beyond all
            exact = False
        if not exact:
            raise ValueError("a number has more digits than some readers keep")
    return number


def replay(body: bytes, receive: Receive) -> Receive:
    """Return what an application receives: the body that was read, then what comes after it."""
    replayed = False

    async def again() -> Message:
        nonlocal replayed
        if replayed:
            return await receive()
        replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def refuse(send: Send, refusal: Refusal, *, nonce: str = "", parameters: Mapping[str, str] | None = None) -> None:
    """Answer with a problem (RFC 9457) of the same fields as everywhere, and a challenge where one is due.

    `parameters` go into the challenge, and `nonce` with it where a proof must hold one.
    """
    await _answer(send, http_status(refusal.reason), refusal, challenges(refusal, nonce=nonce, parameters=parameters))


def challenges(refusal: Refusal, *, nonce: str = "", parameters: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the headers that tell a client what it needs; else as `refuse`. A `scope` of `parameters` goes first."""
    headers = {}
    if challenge := _challenge(http_status(refusal.reason), refusal, parameters or {}):
        headers["www-authenticate"] = challenge
    if refusal.reason is Reason.PROOF_NONCE_REQUIRED:
        headers["dpop-nonce"] = nonce
    return headers


async def refuse_unread(send: Send, unread: Unread) -> None:
    """Answer that a body is not read to its end."""
    await _answer(send, unread.status, unread.refusal, unread.headers)


async def respond(send: Send, status: int, content_type: str, body: bytes, headers: Mapping[str, str]) -> None:
    """Send a whole response that nobody keeps."""
    every = {"content-type": content_type, "content-length": str(len(body)), "cache-control": "no-store", **headers}
    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in every.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


async def _answer(send: Send, status: int, refusal: Refusal, headers: Mapping[str, str]) -> None:
    problem = {
        "status": status,
        "reason": refusal.reason.value,
        "message": refusal.message,
        **refusal.hints.metadata(),
        "violations": [{"field": v.field, "description": v.description} for v in refusal.violations],
    }
    await respond(send, status, "application/problem+json", json.dumps(problem).encode(), headers)


def _challenge(status: int, refusal: Refusal, parameters: Mapping[str, str]) -> str:
    """Return what the client needs, where it can do something about it (RFC 6750 section 3, RFC 9449 section 7.1)."""
    error = _ERRORS.get(refusal.reason, "invalid_token" if status == _UNAUTHORIZED else "")
    challenge = dict(parameters)
    if refusal.hints.missing != HTTP.field:
        if not error:
            return ""
        challenge = {"error": error} | challenge
    if refusal.reason is Reason.TOOL_NOT_GRANTED and refusal.hints.missing:
        challenge.setdefault("scope", refusal.hints.missing)
    scheme = "DPoP" if "dpop" in error else "Bearer"
    if scheme == "DPoP":
        challenge["algs"] = dpop.ALGORITHM
    pairs = ", ".join(f'{name}="{value}"' for name, value in challenge.items())
    return f"{scheme} {pairs}".strip()


def header_values(scope: Scope, name: bytes) -> list[str]:
    """Return the values of a header (its name in lower case), one for each time that it is there."""
    return [str(value, "latin-1") for key, value in scope["headers"] if key == name]
