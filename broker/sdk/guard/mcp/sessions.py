"""Sessions of an MCP server, each for the holder and the task that began it, whoever else may learn its id.

Servers know a session by an id that they made up. What a client is given of it is that id with a seal over whose it is;
so nothing has to be kept, and a session ends when the server says so.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from broker.credential.claims import Claims
from broker.model.compact_jws import base64url
from broker.sdk.guard import http_request
from broker.sdk.guard.http_request import Message, Scope, Send

_HEADER = b"mcp-session-id"


class UnknownSession(Exception):
    """There is no such session; not for this holder and task."""


@dataclass(frozen=True, slots=True)
class Sessions:
    """Seals the ids of sessions with a secret key, on their way out, and opens them on their way in."""

    key: bytes = field(repr=False)

    def opened(self, scope: Scope, claims: Claims) -> Scope:
        """Return a request with the id that the server knows, if it names a session.

        Raises:
            UnknownSession: nobody else's is looked for.
        """
        named = http_request.header_values(scope, _HEADER)
        if not named:
            return scope
        session, _, seal = named[0].rpartition(".")
        if len(named) > 1 or not hmac.compare_digest(seal.encode("latin-1"), self._seal(session, claims)):
            raise UnknownSession
        others = [(name, value) for name, value in scope["headers"] if name != _HEADER]
        return {**scope, "headers": [*others, (_HEADER, session.encode("latin-1"))]}

    def sealing(self, send: Send, claims: Claims) -> Send:
        """Seal the id of a session in an answer, if there is one."""

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [
                    (name, value + b"." + self._seal(str(value, "latin-1"), claims))
                    if name.lower() == _HEADER
                    else (name, value)
                    for name, value in message.get("headers", ())
                ]
                message = {**message, "headers": headers}
            await send(message)

        return sealed

    def _seal(self, session: str, claims: Claims) -> bytes:
        whose = f"{session}\0{claims.tenant}\0{claims.subject}\0{claims.task_id}"
        return base64url(hmac.digest(self.key, whose.encode(), hashlib.sha256)).encode()
