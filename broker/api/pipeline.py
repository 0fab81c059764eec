"""Every RPC's way in and out: authenticate, admit, parse, do, map a refusal to its status. None is beside it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from broker.access.authentication import Authentication
from broker.access.entrances import Entrance, entrance_of, open_entrance
from broker.access.lanes import Lanes
from broker.access.presented import PresentedIdentity
from broker.access.refusals import Refusals
from broker.access.summary import RequestSummary
from broker.api.evidence import Context, presented
from broker.api.turnstile import Turnstile
from broker.intent.scopes import scope_of
from broker.model.errors import Refusal, invalid
from broker.model.principal import Principal
from broker.wire.codes import grpc_code
from broker.wire.status import to_status_bytes
from broker.wire.unknown import refuse_unknown

Unary = Callable[[Principal, Message], Awaitable[Message]]
Streaming = Callable[[Principal, Any], AsyncIterator[Message]]
"""What answers a request, or the requests of a stream."""
Handlers: TypeAlias = "Mapping[str, grpc.RpcMethodHandler[Any, Any]]"
"""Those of a service, by RPC."""

_ONE_TO_MANY, _MANY_TO_MANY = grpc.unary_stream_rpc_method_handler, grpc.stream_stream_rpc_method_handler
_CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What every call passes. `issuer` is the URL that proofs of possession name us by."""

    issuer: str
    authentication: Authentication
    refusals: Refusals
    lanes: Lanes
    turnstile: Turnstile = field(default_factory=Turnstile)

    def serve(self, service: ServiceDescriptor, implementation: object) -> Handlers:
        """Put an implementation behind the pipeline. Its methods have the RPCs' names in snake_case.

        Raises:
            NoEntrance: an RPC has no line among the entrances.
        """
        return {method.name: self._handler(service, method, implementation) for method in service.methods}

    def _handler(
        self, service: ServiceDescriptor, method: MethodDescriptor, implementation: object
    ) -> grpc.RpcMethodHandler[Message, Message]:
        entrance = entrance_of(f"/{service.full_name}/{method.name}")
        function = getattr(implementation, re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower())
        message = GetMessageClass(method.input_type)
        if not method.server_streaming:
            guarded, make = self._unary(entrance, message, function), grpc.unary_unary_rpc_method_handler
        elif not method.client_streaming:
            guarded, make = self._streaming(entrance, message, function, many=False), _ONE_TO_MANY
        else:
            guarded, make = self._streaming(entrance, message, function, many=True), _MANY_TO_MANY
        # Requests come as bytes: who may not call is refused before anything is parsed, and the parser's no is ours.
        return make(guarded, response_serializer=GetMessageClass(method.output_type).SerializeToString)

    def _unary(self, entrance: Entrance, message: type[Message], function: Unary):  # type: ignore[no-untyped-def]  # noqa: ANN202 (grpc types no handlers)
        url, lane = self.issuer + entrance.path, self.lanes.of(entrance)

        async def call(data: bytes, context: Context) -> Message:
            principal, request = None, message()
            try:
                self.turnstile.check()
                lane.check()
                identity = presented(context, url)
                principal = await self.authentication.authenticate(identity, prove_key=entrance.proves_key)
                entrance.admit(principal)
                with lane:
                    _parse(data, request)
                    return await function(principal, request)
            except Exception as error:  # noqa: BLE001 (mapped to a status, which is this function's work)
                refusal = await self.refusals.settle(entrance, principal, _summary(request), error)
            return await _abort(context, refusal)

        return call

    def _streaming(self, entrance: Entrance, message: type[Message], function: Streaming, *, many: bool):  # type: ignore[no-untyped-def]  # noqa: ANN202
        url = self.issuer + entrance.path

        async def call(data: Any, context: Context) -> AsyncIterator[Message]:  # noqa: ANN401 (bytes, or many)
            principal, request = None, message()
            try:
                self.turnstile.check()
                identity = presented(context, url)
                principal = await self.authentication.authenticate(identity, prove_key=entrance.proves_key)
                entrance.admit(principal)
                if not many:
                    _parse(data, request)
                said = self._each(data, entrance, identity, message) if many else request
                async for response in function(principal, said):
                    entrance.admit(self.authentication.authenticate_again(identity))
                    yield response
            except Exception as error:  # noqa: BLE001 (mapped to a status, which is this function's work)
                refusal = await self.refusals.settle(entrance, principal, _summary(request), error)
                await _abort(context, refusal)

        return call

    async def _each(
        self, messages: AsyncIterator[bytes], entrance: Entrance, identity: PresentedIdentity, kind: type[Message]
    ) -> AsyncIterator[Message]:
        """Yield the messages of a stream, of each of which it is known that its sender may still send it."""
        async for data in messages:
            entrance.admit(self.authentication.authenticate_again(identity))
            message = kind()
            _parse(data, message)
            yield message


def put(server: grpc.aio.Server, service: str, handlers: Handlers) -> None:
    """Serve a service's RPCs."""
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, dict(handlers)),))
    put_first(server, service, handlers)


def put_first(server: grpc.aio.Server, service: str, handlers: Handlers) -> None:
    """Give each RPC with the right of way a line of its own, in which its calls wait until the event loop takes one.

    The loop takes one call of each line in a turn. gRPC has such lines for methods that are registered by name, which
    go before generic handlers; all that are not wait in one.
    """
    first = {name: on for name, on in handlers.items() if entrance_of(f"/{service}/{name}").has_right_of_way}
    server.add_registered_method_handlers(service, first)


def serve_anybody(service: str, handlers: Handlers) -> grpc.GenericRpcHandler:
    """Serve what gRPC itself has for everybody: the handlers of a service by their RPCs' names.

    Raises:
        NoEntrance: an RPC has no line among the entrances, or one by which it is not for anybody.
    """
    for name in handlers:
        open_entrance(f"/{service}/{name}")
    return grpc.method_handlers_generic_handler(service, dict(handlers))


def _parse(data: bytes, request: Message) -> None:
    """Parse a request in place; refuse what is no message, and what means more to its sender than to this version."""
    try:
        request.ParseFromString(data)
    except DecodeError as error:
        raise invalid("request", "is not a well-formed protobuf message") from error
    refuse_unknown(request)


def _summary(request: Message) -> RequestSummary:
    """Return what a request was about, as far as its message has fields for that."""
    return RequestSummary(
        task_id=getattr(request, "task_id", ""),
        lease_id=getattr(request, "lease_id", ""),
        resource=getattr(request, "resource", ""),
        tools=tuple(scope_of([grant.tool]) for grant in getattr(request, "grants", ())),
    )


async def _abort(context: Context, refusal: Refusal) -> Message:
    code = grpc_code(refusal.reason)
    context.set_trailing_metadata((("grpc-status-details-bin", to_status_bytes(refusal, code)),))
    await context.abort(_CODES[code], refusal.message)
    raise AssertionError  # abort() never returns
