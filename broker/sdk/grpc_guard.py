"""Guards a gRPC server: every call is checked before its handler runs.

For asyncio, ``grpc.aio.server(interceptors=[GrpcGuard(verifier, tool=…)])``; for threads,
``grpc.server(pool, interceptors=[SyncGrpcGuard(verifier, tool=…)])``.

The holder of a credential is proven by mutual TLS. gRPC checks a client's certificate against all roots that the server
was given, together: give it those of one trust domain, or another one's CA can make certificates in its name.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NoReturn, TypeAlias, cast

import grpc
from cryptography import x509

from broker.model.errors import Hints, Reason, Refusal
from broker.sdk.arguments import arguments_of
from broker.sdk.verifier import Call, Verifier
from broker.wire.codes import grpc_code
from broker.wire.status import to_status_bytes

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_DETAILS = "grpc-status-details-bin"
_SCHEME = "bearer "
_REMEMBERED = 1_000

ToolOf = Callable[[str], str | None]
AuthContext = Mapping[str, Iterable[bytes]]
AioContext = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class _Check:
    """What both guards do with a call."""

    def __init__(self, verifier: Verifier, arguments: Callable[[Any], object]) -> None:
        self._verifier = verifier
        self._arguments = arguments
        self._ends: OrderedDict[bytes, datetime] = OrderedDict()

    def __call__(self, tokens: list[str], tool: str, request: object, auth_context: AuthContext) -> Call:
        """Check a call. Its arguments are looked at last, and only if there is one credential.

        Raises:
            Refusal: IDENTITY_EXPIRED; else as `Verifier.check`.
        """
        if len(tokens) != 1:
            raise Refusal(
                Reason.TOKEN_INVALID,
                "the call does not carry exactly one credential",
                Hints(missing="authorization", next="send the metadata `authorization: Bearer TOKEN`, once"),
            )
        return self._verifier.check(tokens[0], tool, self._arguments(request), self._peer(auth_context))

    def _peer(self, auth_context: AuthContext) -> str | None:
        """Give the SPIFFE ID that TLS has proven; anew on each call, as a connection may outlive its certificate."""
        ids = list(auth_context.get("peer_spiffe_id", ()))
        leaves = list(auth_context.get("x509_pem_cert", ()))
        if len(ids) != 1 or len(leaves) != 1:
            return None
        if self._verifier.clock() >= self._end(leaves[0]):
            raise Refusal(
                Reason.IDENTITY_EXPIRED,
                "the certificate of the connection has expired",
                Hints(next="fetch a fresh X.509-SVID and connect again"),
            )
        return ids[0].decode()

    def _end(self, leaf_pem: bytes) -> datetime:
        found = self._ends.get(leaf_pem)
        if found is None:
            found = self._ends[leaf_pem] = x509.load_pem_x509_certificate(leaf_pem).not_valid_after_utc
            while len(self._ends) > _REMEMBERED:
                self._ends.popitem(last=False)
        return found


class GrpcGuard(grpc.aio.ServerInterceptor):
    """Checks calls with a `Verifier`, for a server with asyncio. Calls with a stream of requests are refused.

    `tool` names the tool of a full method name, such as `/acme.Repo/ReadFile`; None lets the method through unchecked
    (health, reflection), and nothing else does. `arguments` gives a request's arguments as parsed JSON. Handlers are
    coroutines; those that stream are asynchronous generators.
    """

    def __init__(self, verifier: Verifier, *, tool: ToolOf, arguments: Callable[[Any], object] = arguments_of) -> None:
        """Make a guard."""
        self._check = _Check(verifier, arguments)
        self._tool = tool

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Put the check before the handler."""
        found = await continuation(handler_call_details)
        tool = self._tool(handler_call_details.method)
        if found is None or tool is None:
            return found
        handler: Any = found
        tokens = _tokens(handler_call_details)

        async def unary(request: object, context: AioContext) -> object:
            await self._admit(tokens, tool, request, context)
            return await handler.unary_unary(request, context)

        async def streaming(request: object, context: AioContext) -> AsyncIterator[object]:
            await self._admit(tokens, tool, request, context)
            async for response in handler.unary_stream(request, context):
                yield response

        async def refused(_requests: object, context: AioContext) -> None:
            await _abort(context, _unguardable())

        return _like(handler, unary, streaming, refused)

    async def _admit(self, tokens: list[str], tool: str, request: object, context: AioContext) -> None:
        try:
            self._check(tokens, tool, request, context.auth_context())
        except Refusal as refusal:
            await _abort(context, refusal)


class SyncGrpcGuard(grpc.ServerInterceptor):
    """Checks calls with a `Verifier`, for a server with threads; else as `GrpcGuard`."""

    def __init__(self, verifier: Verifier, *, tool: ToolOf, arguments: Callable[[Any], object] = arguments_of) -> None:
        """Make a guard."""
        self._check = _Check(verifier, arguments)
        self._tool = tool

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Put the check before the handler."""
        found = continuation(handler_call_details)
        tool = self._tool(handler_call_details.method)
        if found is None or tool is None:
            return found
        handler: Any = found
        tokens = _tokens(handler_call_details)

        def unary(request: object, context: grpc.ServicerContext) -> object:
            self._admit(tokens, tool, request, context)
            return handler.unary_unary(request, context)

        def streaming(request: object, context: grpc.ServicerContext) -> Iterator[object]:
            self._admit(tokens, tool, request, context)
            yield from handler.unary_stream(request, context)

        def refused(_requests: object, context: grpc.ServicerContext) -> NoReturn:
            _abort_sync(context, _unguardable())

        return _like(handler, unary, streaming, refused)

    def _admit(self, tokens: list[str], tool: str, request: object, context: grpc.ServicerContext) -> None:
        try:
            self._check(tokens, tool, request, cast("AuthContext", context.auth_context()))  # as it is, not as typed
        except Refusal as refusal:
            _abort_sync(context, refusal)


def _like(handler: Any, unary: Any, streaming: Any, refused: Any) -> Handler:  # noqa: ANN401 (grpc types none)
    """Make a handler of the same kind around one that is guarded."""
    forms = {"request_deserializer": handler.request_deserializer, "response_serializer": handler.response_serializer}
    if handler.unary_unary is not None:
        return grpc.unary_unary_rpc_method_handler(unary, **forms)
    if handler.unary_stream is not None:
        return grpc.unary_stream_rpc_method_handler(streaming, **forms)
    if handler.stream_unary is not None:
        return grpc.stream_unary_rpc_method_handler(refused, **forms)
    return grpc.stream_stream_rpc_method_handler(refused, **forms)


async def _abort(context: AioContext, refusal: Refusal) -> NoReturn:
    code = grpc_code(refusal.reason)
    context.set_trailing_metadata(((_DETAILS, to_status_bytes(refusal, code)),))
    await context.abort(_CODES[code], refusal.message)


def _abort_sync(context: grpc.ServicerContext, refusal: Refusal) -> NoReturn:
    code = grpc_code(refusal.reason)
    context.set_trailing_metadata(((_DETAILS, to_status_bytes(refusal, code)),))
    context.abort(_CODES[code], refusal.message)


def _tokens(details: grpc.HandlerCallDetails) -> list[str]:
    """List the bearer tokens of a call; what is no bearer token counts as an empty one."""
    values = [str(value) for name, value in details.invocation_metadata or () if name == "authorization"]
    return [value[len(_SCHEME) :].strip() if value[: len(_SCHEME)].lower() == _SCHEME else "" for value in values]


def _unguardable() -> Refusal:
    return Refusal(
        Reason.INVALID_ARGUMENT,
        "a call with a stream of requests cannot be guarded: its arguments are not known beforehand",
    )
