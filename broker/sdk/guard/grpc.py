"""Guards a gRPC server: every call is checked before its handler runs.

For asyncio, ``grpc.aio.server(interceptors=[GrpcGuard(verifier, tool=…)])``; for threads,
``grpc.server(pool, interceptors=[SyncGrpcGuard(verifier, tool=…)])``.

The holder of a credential is proven by mutual TLS. gRPC checks a client's certificate against all roots that the server
was given, together: give it those of one trust domain, or another one's CA can make certificates in its name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn, TypeAlias, cast

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from broker.model.bounded_cache import BoundedCache
from broker.model.compact_jws import base64url
from broker.model.errors import Hints, Reason, Refusal
from broker.sdk.guard.arguments import arguments_of
from broker.sdk.guard.presented import GRPC, presented
from broker.sdk.verify.admitted import Call
from broker.sdk.verify.presentation import Presentation
from broker.sdk.verify.verifier import Verifier
from broker.wire.codes import grpc_code
from broker.wire.status import to_status_bytes

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_DETAILS = "grpc-status-details-bin"
_REMEMBERED = 1_000

ToolOf = Callable[[str], str | None]
AuthContext = Mapping[str, Iterable[bytes]]
AioContext = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


@dataclass(frozen=True, slots=True)
class _Leaf:
    """What matters of a peer's certificate."""

    not_after: datetime
    thumbprint: str


@dataclass(frozen=True, slots=True)
class _Metadata:
    """The method of a call, and its metadata in pairs."""

    method: str
    pairs: Sequence[tuple[str, str]]

    @classmethod
    def of(cls, details: grpc.HandlerCallDetails) -> _Metadata:
        return cls(details.method, [(name, str(value)) for name, value in details.invocation_metadata or ()])

    def values_of(self, name: str) -> Sequence[str]:
        return [value for key, value in self.pairs if key == name]


class _Check:
    """What both guards do with a call."""

    def __init__(self, verifier: Verifier, arguments: Callable[[Any], object]) -> None:
        self._verifier = verifier
        self._arguments = arguments
        self._leaves: BoundedCache[bytes, _Leaf] = BoundedCache(_REMEMBERED)

    def __call__(self, metadata: _Metadata, tool: str, request: object, auth_context: AuthContext) -> Call:
        """Check a call. Its arguments are looked at last, and only if there is one credential.

        Raises:
            Refusal: IDENTITY_EXPIRED; else as `Verifier.check`.
        """
        credential = presented(GRPC, metadata.values_of)
        spiffe_id, certificate = self._peer(auth_context)
        presentation = Presentation(
            spiffe_id=spiffe_id,
            certificate=certificate,
            proof=credential.proof,
            method="POST",  # as every gRPC call is
            url=self._verifier.audience.rstrip("/") + metadata.method,
        )
        return self._verifier.check(credential.token, tool, self._arguments(request), presentation)

    def _peer(self, auth_context: AuthContext) -> tuple[str, str]:
        """Return the SPIFFE ID and the certificate's hash that TLS has proven, or nothing.

        Anew on each call, as a connection may outlive its certificate.
        """
        ids = list(auth_context.get("peer_spiffe_id", ()))
        leaves = list(auth_context.get("x509_pem_cert", ()))
        if len(ids) != 1 or len(leaves) != 1:
            return "", ""
        leaf = self._leaf(leaves[0])
        if self._verifier.clock() >= leaf.not_after:
            raise Refusal(
                Reason.IDENTITY_EXPIRED,
                "the certificate of the connection has expired",
                Hints(next="fetch a fresh X.509-SVID and connect again"),
            )
        return ids[0].decode(), leaf.thumbprint

    def _leaf(self, pem: bytes) -> _Leaf:
        leaf = self._leaves.get(pem)
        if leaf is None:
            certificate = x509.load_pem_x509_certificate(pem)
            thumbprint = base64url(certificate.fingerprint(hashes.SHA256()))
            leaf = self._leaves.keep(pem, _Leaf(certificate.not_valid_after_utc, thumbprint))
        return leaf


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
        unguarded = await continuation(handler_call_details)
        tool = self._tool(handler_call_details.method)
        if unguarded is None or tool is None:
            return unguarded
        handler: Any = unguarded
        metadata = _Metadata.of(handler_call_details)

        async def unary(request: object, context: AioContext) -> object:
            await self._admit(metadata, tool, request, context)
            return await handler.unary_unary(request, context)

        async def streaming(request: object, context: AioContext) -> AsyncIterator[object]:
            await self._admit(metadata, tool, request, context)
            async for response in handler.unary_stream(request, context):
                yield response

        async def refused(_requests: object, context: AioContext) -> None:
            await _abort(context, _unguardable())

        return _like(handler, unary, streaming, refused)

    async def _admit(self, metadata: _Metadata, tool: str, request: object, context: AioContext) -> None:
        try:
            self._check(metadata, tool, request, context.auth_context())
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
        unguarded = continuation(handler_call_details)
        tool = self._tool(handler_call_details.method)
        if unguarded is None or tool is None:
            return unguarded
        handler: Any = unguarded
        metadata = _Metadata.of(handler_call_details)

        def unary(request: object, context: grpc.ServicerContext) -> object:
            self._admit(metadata, tool, request, context)
            return handler.unary_unary(request, context)

        def streaming(request: object, context: grpc.ServicerContext) -> Iterator[object]:
            self._admit(metadata, tool, request, context)
            yield from handler.unary_stream(request, context)

        def refused(_requests: object, context: grpc.ServicerContext) -> NoReturn:
            _abort_sync(context, _unguardable())

        return _like(handler, unary, streaming, refused)

    def _admit(self, metadata: _Metadata, tool: str, request: object, context: grpc.ServicerContext) -> None:
        try:
            self._check(metadata, tool, request, cast("AuthContext", context.auth_context()))  # as it is, not as typed
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


def _unguardable() -> Refusal:
    return Refusal(
        Reason.INVALID_ARGUMENT,
        "a call with a stream of requests cannot be guarded: its arguments are not known beforehand",
    )
