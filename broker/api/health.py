"""The standard health service (grpc.health.v1), which reports what is so: a broker that cannot work says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import SERVICE_NAME

from broker.api.pipeline import Handlers, serve_anybody

_EVERY_SECONDS = 0.5
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

Sign = Callable[[], str | None]
"""Says what is wrong with a part of the broker now; None: nothing. Asked often, so it only looks."""


class Health:
    """One health for the broker and each of its services: all of them need the database."""

    def __init__(self, signs: Sequence[Sign]) -> None:
        """Be well, until a sign says otherwise."""
        self._signs = signs
        self._names = {""}
        self._serving = True
        self._stopping = False
        self._changed = asyncio.Event()

    def names(self, names: Sequence[str]) -> None:
        """Answer for these services, too."""
        self._names.update(names)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        log, before = structlog.get_logger("health"), None
        while True:
            problem = next((problem for sign in self._signs if (problem := sign()) is not None), None)
            if problem != before:
                before = problem
                if problem is None:
                    log.info("health.serving")
                else:
                    log.error("health.not_serving", problem=problem)
                self._report(serving=problem is None)
            await asyncio.sleep(_EVERY_SECONDS)

    def stop(self) -> None:
        """Say from now on that no calls are wanted."""
        self._stopping = True
        self._report(serving=False)

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the service, for a server."""
        return serve_anybody(SERVICE_NAME, self.handlers())

    def handlers(self) -> Handlers:
        """Return the handlers of the service, by RPC."""
        request = health_pb2.HealthCheckRequest.FromString
        response = health_pb2.HealthCheckResponse.SerializeToString
        return {
            "Check": grpc.unary_unary_rpc_method_handler(self.check, request, response),
            "Watch": grpc.unary_stream_rpc_method_handler(self.watch, request, response),
        }

    async def check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> health_pb2.HealthCheckResponse:
        """Report how a service is now."""
        status = self._status(request.service)
        if status == _UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service")
        return health_pb2.HealthCheckResponse(status=status)

    async def watch(
        self, request: health_pb2.HealthCheckRequest, _context: object
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Report how a service is, and each time that this changes."""
        sent = None
        while True:
            changed, status = self._changed, self._status(request.service)
            if status != sent:
                sent = status
                yield health_pb2.HealthCheckResponse(status=status)
            if self._stopping:  # who watches on would hold a server up that stops
                return
            await changed.wait()

    def _status(self, name: str) -> Any:  # noqa: ANN401 (ships no types)
        if name not in self._names:
            return _UNKNOWN
        return _SERVING if self._serving and not self._stopping else _NOT_SERVING

    def _report(self, *, serving: bool) -> None:
        self._serving = serving
        self._changed.set()
        self._changed = asyncio.Event()
