"""Guards a gRPC server (asyncio): every call is checked before its handler runs.

    guard = GrpcGuard(verifier, tool=lambda method: method.rpartition("/")[2])
    server = grpc.aio.server(interceptors=[guard])
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from broker.model.errors import Hints, Reason, Refusal
from broker.sdk.verifier import Call, Verifier
from broker.wire.codes import grpc_code
from broker.wire.status import to_status_bytes

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_SCHEME = "bearer "

Handler = Callable[[Any, grpc.aio.ServicerContext], Awaitable[Any]]


def arguments_of(message: Any) -> object:  # noqa: ANN401 (whatever the server's deserializer makes)
    """Give a request as the JSON that constraints look at: set fields by their proto names, integers as integers."""
    if not isinstance(message, Message):
        return message
    return {descriptor.name: _plain(descriptor, value) for descriptor, value in message.ListFields()}


class GrpcGuard(grpc.aio.ServerInterceptor):
    """Checks unary calls with a `Verifier`. Streams of requests are refused: their arguments cannot be checked first.

    `tool` names the tool of a full method name; None lets a method through unchecked (health, reflection), and nothing
    else does. `arguments` gives a request's arguments as parsed JSON.
    """

    def __init__(
        self,
        verifier: Verifier,
        *,
        tool: Callable[[str], str | None],
        arguments: Callable[[Any], object] = arguments_of,
    ) -> None:
        self._verifier = verifier
        self._tool = tool
        self._arguments = arguments

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """Put the check before the handler."""
        handler = await continuation(handler_call_details)
        tool = self._tool(handler_call_details.method)
        if handler is None or tool is None:
            return handler
        token = _bearer(dict(handler_call_details.invocation_metadata or ()))
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                self._unary(handler.unary_unary, tool, token), handler.request_deserializer, handler.response_serializer
            )
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                self._stream(handler.unary_stream, tool, token), handler.request_deserializer, handler.response_serializer
            )
        return grpc.stream_stream_rpc_method_handler(_refuse_stream)

    def check(self, token: str, tool: str, request: Any, context: grpc.aio.ServicerContext) -> Call:  # noqa: ANN401
        """Check one call.

        Raises:
            Refusal: as `Verifier.check`.
        """
        if not token:
            raise Refusal(
                Reason.TOKEN_INVALID,
                "the call carries no credential",
                Hints(missing="authorization", next="send the metadata `authorization: Bearer TOKEN`"),
            )
        return self._verifier.check(token, tool, self._arguments(request), peer_of(context))

    def _unary(self, handle: Handler, tool: str, token: str) -> Handler:
        async def guarded(request: Any, context: grpc.aio.ServicerContext) -> Any:  # noqa: ANN401
            try:
                self.check(token, tool, request, context)
            except Refusal as refusal:
                await abort(context, refusal)
            return await handle(request, context)

        return guarded

    def _stream(self, handle: Callable[..., Any], tool: str, token: str) -> Callable[..., Any]:
        async def guarded(request: Any, context: grpc.aio.ServicerContext) -> Any:  # noqa: ANN401
            try:
                self.check(token, tool, request, context)
            except Refusal as refusal:
                await abort(context, refusal)
            async for response in handle(request, context):
                yield response

        return guarded


def peer_of(context: grpc.aio.ServicerContext) -> str | None:
    """Give the SPIFFE ID that TLS has proven, if it is one and unambiguous."""
    ids = context.auth_context().get("peer_spiffe_id", ())
    return ids[0].decode() if len(ids) == 1 else None


async def abort(context: grpc.aio.ServicerContext, refusal: Refusal) -> None:
    """End a call with a refusal: google.rpc.Status with ErrorInfo. Does not return."""
    code = grpc_code(refusal.reason)
    context.set_trailing_metadata((("grpc-status-details-bin", to_status_bytes(refusal, code)),))
    await context.abort(_CODES[code], refusal.message)


async def _refuse_stream(_requests: object, context: grpc.aio.ServicerContext) -> None:
    await abort(context, Refusal(Reason.INVALID_ARGUMENT, "a stream of requests cannot be guarded"))


def _bearer(metadata: Mapping[str, str | bytes]) -> str:
    value = metadata.get("authorization", "")
    if not isinstance(value, str) or value[: len(_SCHEME)].lower() != _SCHEME:
        return ""
    return value[len(_SCHEME) :].strip()


def _plain(descriptor: FieldDescriptor, value: Any) -> object:  # noqa: ANN401
    """Give a field's value as JSON: enums as names, bytes refused by every constraint, as they are no JSON."""
    if descriptor.message_type is not None and descriptor.message_type.GetOptions().map_entry:
        return {str(key): arguments_of(item) for key, item in value.items()}
    if descriptor.is_repeated:
        return [_single(descriptor, item) for item in value]
    return _single(descriptor, value)


def _single(descriptor: FieldDescriptor, value: Any) -> object:  # noqa: ANN401
    if descriptor.enum_type is not None:
        named = descriptor.enum_type.values_by_number.get(value)
        return value if named is None else named.name
    return arguments_of(value)
