"""Every RPC's way in and out: authenticate, authorise, parse, do, map a refusal to its status. None is beside it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import structlog
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from broker.access.authentication import Authentication, PresentedProof
from broker.access.entrances import METHODS, Method
from broker.access.refusals import RequestSummary, refuse
from broker.api.evidence import bearer_token, peer_evidence, proof
from broker.intent.scopes import scope_of
from broker.lease import guards
from broker.lease.desk import Desk
from broker.model.errors import Reason, Refusal, invalid
from broker.model.principal import Principal
from broker.wire.codes import grpc_code
from broker.wire.status import to_status_bytes
from broker.wire.unknown import refuse_unknown

Unary = Callable[[Principal, Message], Awaitable[Message]]
Context = grpc.aio.ServicerContext[Any, Any]
Streaming = Callable[[Principal, Message], AsyncIterator[Message]]

_CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What every call passes."""

    desk: Desk
    callers: Authentication

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
        message = GetMessageClass(method.input_type)
        guarded, make = (
            (self._streaming(path, METHODS[path], message, function), grpc.unary_stream_rpc_method_handler)
            if method.server_streaming
            else (self._unary(path, METHODS[path], message, function), grpc.unary_unary_rpc_method_handler)
        )
        # Requests come as bytes: who may not call is refused before anything is parsed, and the parser's no is ours.
        return make(guarded, response_serializer=GetMessageClass(method.output_type).SerializeToString)

    def _unary(self, path: str, method: Method, message: type[Message], function: Unary):  # type: ignore[no-untyped-def]  # noqa: ANN202 (grpc types no handlers)
        async def call(data: bytes, context: Context) -> Message:
            principal, request = None, message()
            try:
                principal = await self._authenticate(path, method, context)
                guards.in_role(principal, method.role)
                _parse(data, request)
                return await function(principal, request)
            except Exception as error:  # noqa: BLE001 (mapped to a status, which is this function's work)
                refusal = await self._refuse(path, method, principal, request, error)
            return await _abort(context, refusal)

        return call

    def _streaming(self, path: str, method: Method, message: type[Message], function: Streaming):  # type: ignore[no-untyped-def]  # noqa: ANN202
        async def call(data: bytes, context: Context) -> AsyncIterator[Message]:
            principal, request = None, message()
            try:
                principal = await self._authenticate(path, method, context)
                guards.in_role(principal, method.role)
                _parse(data, request)
                async for response in function(principal, request):
                    self._look_again(method, context)
                    yield response
            except Exception as error:  # noqa: BLE001 (mapped to a status, which is this function's work)
                refusal = await self._refuse(path, method, principal, request, error)
                await _abort(context, refusal)

        return call

    async def _authenticate(self, path: str, method: Method, context: Context) -> Principal:
        """Find out who calls, on this call."""
        evidence, metadata = peer_evidence(context.auth_context()), context.invocation_metadata()
        text = proof(metadata)
        shown = PresentedProof(text, "POST", self.desk.issuer + path) if text else None
        if evidence.leaf_pem:
            principal = self.callers.by_certificate(evidence)
        else:
            principal = await self.callers.by_token(bearer_token(metadata), shown)
        return self.callers.with_key(principal, shown) if method.proof and shown else principal

    def _look_again(self, method: Method, context: Context) -> None:
        """Look again who it is, before each message of a stream, which may outlive certificates, tokens and keys."""
        evidence = peer_evidence(context.auth_context())
        if evidence.leaf_pem:
            principal = self.callers.by_certificate(evidence)
        else:
            principal = self.callers.by_token_again(bearer_token(context.invocation_metadata()))
        guards.in_role(principal, method.role)

    async def _refuse(
        self, path: str, method: Method, principal: Principal | None, request: Message, error: Exception
    ) -> Refusal:
        """Log a failure once, record it where that is due, and give the refusal that the caller sees."""
        if not isinstance(error, Refusal):
            caller = None if principal is None else principal.id
            structlog.get_logger("rpc").error("rpc.failed", method=path, principal=caller, exc_info=error)
            return Refusal(Reason.INTERNAL, "the broker has failed; its log says how")
        return await refuse(self.desk, principal, _asked(path, method, request), error)


def _parse(data: bytes, request: Message) -> None:
    """Parse a request in place; refuse what is no message, and what means more to its sender than to this version."""
    try:
        request.ParseFromString(data)
    except DecodeError as error:
        raise invalid("request", "is not a well-formed protobuf message") from error
    refuse_unknown(request)


def _asked(path: str, method: Method, request: Message) -> RequestSummary:
    """Return what a request was about, as far as its message has fields for that."""
    return RequestSummary(
        method=path.rpartition("/")[2],
        recorded=method.recorded,
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
