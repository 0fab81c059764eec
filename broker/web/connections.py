"""Clients' connections: hang up on who takes too long, and do not read what could be read in two ways."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

_MOST_UNREAD = 32 * 1024  # of answers: a client that reads none, and asks on, is not answered on
_BODY_LENGTHS = (b"content-length", b"transfer-encoding")


class PatientProtocol(H11Protocol):
    """HTTP/1.1 for uvicorn, in which a whole request and its response may take so many seconds and no more.

    That is since the connection, or since the response before. uvicorn itself waits for a request without end.
    """

    def __init__(self, patience: float, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 (uvicorn's own)
        super().__init__(*arguments, **named)
        self._patience = patience
        self._end: asyncio.TimerHandle | None = None

    @property
    def has_asked(self) -> bool:
        """Report whether there ever was a request."""
        return self.cycle is not None

    @property
    def is_answering(self) -> bool:
        """Report whether there is a request, whole, that is not answered yet."""
        return self.has_asked and not self.cycle.more_body and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Begin to wait."""
        transport.set_write_buffer_limits(_MOST_UNREAD)
        super().connection_made(transport)
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        super().connection_lost(exc)
        self._stop()

    def on_response_complete(self) -> None:
        """Wait for the next request; but not if this one still goes on, perhaps to no end."""
        if self.conn.their_state is not h11.SEND_BODY:
            self._begin()
        super().on_response_complete()

    def _begin(self) -> None:
        self._stop()
        self._end = self.loop.call_later(self._patience, self.transport.abort)

    def _stop(self) -> None:
        if self._end is not None:
            self._end.cancel()


def unambiguous(app: ASGIApp) -> ASGIApp:
    """Refuse requests whose end could be seen at two places (RFC 9112 section 6.1), and hang up after them."""

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        if {name for name, _ in scope["headers"]}.issuperset(_BODY_LENGTHS):
            body = b"a request has either a Content-Length or a Transfer-Encoding"
            headers = [
                (b"content-type", b"text/plain"),
                (b"content-length", b"%d" % len(body)),
                (b"connection", b"close"),
            ]
            await send({"type": "http.response.start", "status": 400, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            return
        await app(scope, receive, send)

    return checked
