"""Every RPC's way in and out: admit, parse, do, and map a refusal to its status. There is no other way in."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import grpc
import structlog
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from broker.api.methods import METHODS, Method
from broker.api.tls import peer_evidence
from broker.identity.x509 import Authenticator
from broker.lease.desk import Desk
from broker.lease.refuse import Asked, record_refusal
from broker.model.errors import Hints, Reason, Refusal
from broker.model.principal import Principal
from broker.wire.codes import grpc_code
from broker.wire.status import to_status_bytes
from broker.wire.unknown import refuse_unknown

Unary = Callable[[Principal, Message], Awaitable[Message]]
Streaming = Callable[[Principal, Message], AsyncIterator[Message]]

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_LONGEST_NAME = 256  # what a refused request may have written about itself into the ledger


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What every call passes."""

    desk: Desk
    authenticator: Authenticator

    def serve(self, service: ServiceDescriptor, implementation: object) -> grpc.GenericRpcHandler:
        """Put an implementation behind the pipeline. Its methods have the RPCs' names in snake_case.

        Raises:
            KeyError: an RPC has no row in the method table.
        """
        handlers = {method.name: self._handler(service, method, implementation) for method in service.methods}
        return grpc.method_handlers_generic_handler(service.full_name, handlers)

    def _handler(
        self, service: ServiceDescriptor, method: MethodDescriptor, implementation: object
    ) -> grpc.RpcMethodHandler[Message, Message]:
        path = f"/{service.full_name}/{method.name}"
        function = getattr(implementation, re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower())
        guarded, make = (
            (self._streaming(path, METHODS[path], function), grpc.unary_stream_rpc_method_handler)
            if method.server_streaming
            else (self._unary(path, METHODS[path], function), grpc.unary_unary_rpc_method_handler)
        )
        return make(
            guarded,
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=GetMessageClass(method.output_type).SerializeToString,
        )

    def _unary(self, path: str, method: Method, function: Unary):  # type: ignore[no-untyped-def]  # noqa: ANN202 (grpc types no handlers)
        async def call(request: Message, context: grpc.aio.ServicerContext) -> Message:  # type: ignore[type-arg]
            principal = None
            try:
                principal = self._admit(method, context)
                refuse_unknown(request)
                return await function(principal, request)
            except Exception as error:  # noqa: BLE001 (mapped to a status, which is this function's work)
                refusal = await self._refuse(path, method, principal, request, error)
            return await _abort(context, refusal)

        return call

    def _streaming(self, path: str, method: Method, function: Streaming):  # type: ignore[no-untyped-def]  # noqa: ANN202
        async def call(request: Message, context: grpc.aio.ServicerContext) -> AsyncIterator[Message]:  # type: ignore[type-arg]
            principal = None
            try:
                principal = self._admit(method, context)
                refuse_unknown(request)
                async for response in function(principal, request):
                    # A stream outlives certificates: look again before each message.
                    self._admit(method, context)
                    yield response
            except Exception as error:  # noqa: BLE001 (mapped to a status, which is this function's work)
                refusal = await self._refuse(path, method, principal, request, error)
                await _abort(context, refusal)

        return call

    def _admit(self, method: Method, context: grpc.aio.ServicerContext) -> Principal:  # type: ignore[type-arg]
        """Authenticate the caller, on this call, and refuse one that the method is not for."""
        evidence = peer_evidence(context.auth_context())
        principal = self.authenticator.authenticate(evidence, self.desk.clock())
        if method.group not in principal.groups:
            raise Refusal(
                Reason.GROUP_REQUIRED,
                f"this is for the group `{method.group.value}`, and `{principal.id}` is not in it",
                Hints(
                    missing=f"group:{method.group.value}", next="operators: see [[identity.rule]] in the configuration"
                ),
            )
        return principal

    async def _refuse(
        self, path: str, method: Method, principal: Principal | None, request: Message, error: Exception
    ) -> Refusal:
        """Log a failure once, record it where that is due, and give the refusal that the caller sees."""
        log = structlog.get_logger("rpc")
        caller = None if principal is None else principal.id
        if not isinstance(error, Refusal):
            log.error("rpc.failed", method=path, principal=caller, exc_info=error)
            return Refusal(Reason.INTERNAL, "the broker has failed; its log says how")
        log.info("rpc.refused", method=path, principal=caller, reason=error.reason.value, message=error.message)
        if method.recorded and error.reason not in (Reason.LEDGER_UNAVAILABLE, Reason.UNAVAILABLE):
            try:
                await record_refusal(self.desk, principal, _asked(path, request), error)
            except Refusal as unrecorded:
                return unrecorded
        return error


def _asked(path: str, request: Message) -> Asked:
    """Say what a request was about, without trusting its size or form."""

    def text(name: str) -> str:
        value = getattr(request, name, "")
        return value[:_LONGEST_NAME] if isinstance(value, str) else ""

    grants = getattr(request, "grants", ())
    return Asked(
        method=path.rpartition("/")[2],
        task_id=text("task_id"),
        lease_id=text("lease_id"),
        resource=text("resource"),
        tools=tuple(grant.tool[:_LONGEST_NAME] for grant in grants[:16]),
    )


async def _abort(context: grpc.aio.ServicerContext, refusal: Refusal) -> Message:  # type: ignore[type-arg]
    code = grpc_code(refusal.reason)
    context.set_trailing_metadata((("grpc-status-details-bin", to_status_bytes(refusal, code)),))
    await context.abort(_CODES[code], refusal.message)
    raise AssertionError  # abort() never returns
