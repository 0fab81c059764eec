"""Guards an MCP server: in front of any that speaks streamable HTTP, whatever it is made with.

For example ``McpGuard(server.streamable_http_app(), verifier, authorization_servers=["https://broker.example"])``, with
``Verifier("https://notes.example/mcp")``. ASGI does not tell who the TLS peer is, so only credentials that are bound to
a key (`binding` "dpop") or to nobody ("bearer") pass here.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta

from broker.intent.scopes import scope_of
from broker.model.errors import Hints, Reason, Refusal
from broker.sdk.guard import http_request
from broker.sdk.guard.http_request import BODY_WITHIN, App, Disconnected, Receive, Scope, Send, Unread
from broker.sdk.guard.mcp import messages, methods
from broker.sdk.guard.mcp.listing import Listing
from broker.sdk.guard.mcp.messages import Post
from broker.sdk.guard.mcp.resource import ResourceMetadata
from broker.sdk.guard.mcp.sessions import Sessions, UnknownSession
from broker.sdk.verify.admitted import Admitted
from broker.sdk.verify.verifier import Verifier, check_secret
from broker.wire.codes import http_status

_LARGEST_BODY = 4 * 1024 * 1024
_OK, _NOT_FOUND = 200, 404
_JSON = "application/json"
_NO_SESSION = Refusal(
    Reason.INVALID_ARGUMENT,
    "the credential's holder and task have no such session",
    Hints(missing="mcp-session-id", next="begin a session with `initialize`, and use it for this task alone"),
)
_UNREADABLE = Refusal(Reason.INTERNAL, "the server's answer cannot be read, so nobody knows what it would show")


class McpGuard:
    """Lets a request through to `app` if the verifier does, and shows callers only the tools that they may call.

    Tells clients where to get credentials: metadata of the protected resource (RFC 9728) and challenges that point to
    it. `also` are methods that any credential may use; without it, what is no call of a tool and no client can do
    without is refused. What was admitted is at `scope["credbroker"]` for the application.
    """

    def __init__(
        self,
        app: App,
        verifier: Verifier,
        *,
        authorization_servers: Sequence[str],
        resource_metadata_url: str = "",
        scopes_supported: Sequence[str] = (),
        also: Collection[str] = (),
        body_within: timedelta = BODY_WITHIN,
        session_key: bytes = b"",
    ) -> None:
        """Make a guard for the resource of the verifier. The URL of the metadata follows from the resource's.

        A body that is not there whole within `body_within` is refused. `session_key` seals the ids of sessions: a
        secret of at least 32 bytes that guards share whose servers share sessions; without it the guard makes its own.

        Raises:
            Refusal: INVALID_ARGUMENT: the key is no such secret.
        """
        check_secret(session_key, "session_key")
        self._app = app
        self._sessions = Sessions(session_key or secrets.token_bytes(32))
        self._body_within = body_within
        self._verifier = verifier
        self._also = frozenset(also)
        self._metadata = ResourceMetadata(verifier.audience, authorization_servers, scopes_supported)
        self._parameters = {"resource_metadata": resource_metadata_url or self._metadata.url}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request. WebSockets are closed: their messages cannot be checked here."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008, "reason": "not guarded"})
        elif self._metadata.is_asked(scope):
            await self._metadata.answer(scope, send)
        elif http_request.is_preflight(scope):
            await http_request.answer_preflight(send)
        else:
            await self._guard(scope, receive, send)

    async def _guard(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            token, presentation = http_request.credential(scope, self._verifier.audience)
            self._verifier.alive(token)  # a body is read for nobody else; what counts is decided when it is there
            body = await http_request.read(receive, _LARGEST_BODY, self._body_within)
            admitted = self._verifier.admit(token, presentation)
            post = messages.read(scope, body)
        except Refusal as refusal:
            await self._answer(send, http_status(refusal.reason), refusal, Post(), {})
        except Unread as unread:
            body = Post().answer(unread.refusal)
            await http_request.respond(send, unread.status, _JSON, body, unread.headers)
        except Disconnected:
            return
        else:
            try:
                self._check(scope, admitted, post)
                inner = self._sessions.opened(scope, admitted.claims)
            except Refusal as refusal:
                await self._refuse(send, refusal, admitted, post)
            except UnknownSession:
                await http_request.respond(send, _NOT_FOUND, _JSON, post.answer(_NO_SESSION), {})
            else:
                # The bytes that were checked and not what we read in them: that leaves numbers as they were written,
                # and a strict reading is the only one there is.
                await self._pass(inner, http_request.replay(body, receive), send, post, (token, admitted))

    def _check(self, scope: Scope, admitted: Admitted, post: Post) -> None:
        for message in post.messages:
            if message.method:
                methods.check(admitted, message.method, message.params, self._also)
        messages.check_headers(scope, post)

    async def _pass(
        self, scope: Scope, receive: Receive, send: Send, post: Post, credential: tuple[str, Admitted]
    ) -> None:
        """Hand a request on. An answer that may show what there is is filtered, for which it must come as it is."""
        token, admitted = credential
        scope["credbroker"] = admitted
        send = self._sessions.sealing(send, admitted.claims)
        if scope["method"] == "GET" or post.shows():
            headers = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
            scope = {**scope, "headers": headers, "extensions": {}}
            unreadable = post.answer(_UNREADABLE)
            send = Listing(send, admitted.bounds, unreadable, lambda: self._is_alive(token), also=self._also)
        await self._app(scope, receive, send)

    def _is_alive(self, token: str) -> bool:
        """Report whether a credential that was admitted is good yet; its presentation was, and used up a proof."""
        try:
            self._verifier.alive(token)
        except Refusal:
            return False
        return True

    async def _refuse(self, send: Send, refusal: Refusal, admitted: Admitted, post: Post) -> None:
        """Refuse what a good credential does not cover.

        A stock client answers 403 with `insufficient_scope` by asking for a credential with that scope, and calls once
        more. So that is said only where a scope would help: for an argument the client would get a like credential and
        be refused again. There it is an error in an answer with 200, as a tool gives it: the model reads what to mend,
        and clients of `mcp` 1.x live on, which end their session at any other status.
        """
        status, parameters = http_status(refusal.reason), dict[str, str]()
        if refusal.reason is Reason.TOOL_NOT_GRANTED and refusal.hints.missing:
            parameters = {"scope": f"{scope_of(admitted.tools)} {refusal.hints.missing}"}
        elif refusal.reason is not Reason.INVALID_ARGUMENT and post.asks():
            status = _OK
        await self._answer(send, status, refusal, post, parameters)

    async def _answer(
        self, send: Send, status: int, refusal: Refusal, post: Post, parameters: Mapping[str, str]
    ) -> None:
        """Answer with a JSON-RPC error, which clients show to their model, and the challenge that is due."""
        headers = {}
        if status != _OK:
            members = {**self._parameters, **parameters}
            headers = http_request.challenges(refusal, nonce=self._verifier.nonce(), parameters=members)
        await http_request.respond(send, status, _JSON, post.answer(refusal), headers)
