"""Guards an HTTP server: in front of any ASGI application, without a framework.

For example ``HttpGuard(app, verifier, route=lambda scope, body: (scope["path"].strip("/"), body))``. ASGI does not tell
who the TLS peer is, so only credentials that are bound to a key (`binding` "dpop") or to nobody ("bearer") pass here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from broker.model.errors import Refusal
from broker.sdk.guard import http_request
from broker.sdk.guard.http_request import BODY_WITHIN, App, Disconnected, Receive, Scope, Send, Unread
from broker.sdk.verify.verifier import Verifier

Route = Callable[[Scope, object], tuple[str, object]]

_LARGEST_BODY = 1024 * 1024


@dataclass(frozen=True, slots=True)
class HttpGuard:
    """Lets a request through to `app` if the verifier does.

    `route` gives the tool and the arguments of a request, from its scope and its body as parsed JSON (None if it is
    empty). It may refuse with a `Refusal`. The call is at `scope["credbroker"]` for the application.
    A body that is not there whole within `body_within` is refused.
    """

    app: App
    verifier: Verifier
    route: Route
    body_within: timedelta = BODY_WITHIN

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request. WebSockets are closed: their messages cannot be checked here."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008, "reason": "not guarded"})
            return
        if http_request.is_preflight(scope):
            await http_request.answer_preflight(send)
            return
        try:
            token, presentation = http_request.credential(scope, self.verifier.audience)
            self.verifier.alive(token)  # a body is read for nobody else; what counts is decided when it is there
            body = await http_request.read(receive, _LARGEST_BODY, self.body_within)
            tool, arguments = self.route(scope, http_request.parse(body))
            scope["credbroker"] = self.verifier.check(token, tool, arguments, presentation)
        except Refusal as refusal:
            await http_request.refuse(send, refusal, nonce=self.verifier.nonce())
        except Unread as unread:
            await http_request.refuse_unread(send, unread)
        except Disconnected:
            return
        else:
            await self.app(scope, http_request.replay(body, receive), send)
