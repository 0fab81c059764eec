"""Calls to the broker: a stub over connections that are closed afterwards, and failures as refusals.

This imports gRPC, so commands import it when they run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any, TypeVar

import grpc

from broker.cli.failure import Exit, Stop
from broker.cli.options import Caller
from broker.cli.repeating import Repeating
from broker.sdk.connect.endpoint import Endpoint
from broker.sdk.connect.refusals import refusal_from
from broker.v1.agent_service_pb2_grpc import AgentServiceStub
from broker.v1.auditor_service_pb2_grpc import AuditorServiceStub
from broker.v1.operator_service_pb2_grpc import OperatorServiceStub
from broker.v1.orchestrator_service_pb2_grpc import OrchestratorServiceStub

_Stub = TypeVar("_Stub")


def as_agent(caller: Caller) -> AbstractContextManager[AgentServiceStub]:
    """Call what agents call. The block raises what `_calling` says; so for the others."""
    return _calling(AgentServiceStub, caller)


def as_auditor(caller: Caller) -> AbstractContextManager[AuditorServiceStub]:
    """Call what auditors call."""
    return _calling(AuditorServiceStub, caller)


def as_operator(caller: Caller) -> AbstractContextManager[OperatorServiceStub]:
    """Call what operators call."""
    return _calling(OperatorServiceStub, caller)


def as_orchestrator(caller: Caller) -> AbstractContextManager[OrchestratorServiceStub]:
    """Call what orchestrators call."""
    return _calling(OrchestratorServiceStub, caller)


@contextmanager
def _calling(stub: Callable[[Any], _Stub], caller: Caller) -> Iterator[_Stub]:
    """Connect as `caller`.

    Raises:
        Refusal: what the broker refused, or why it cannot be reached.
        Stop: a call took too long.
    """
    endpoint = Endpoint.of(caller.address, caller.svid_dir)
    with closing(Repeating(endpoint.addresses, endpoint.credentials())) as repeating:
        try:
            yield stub(repeating)
        except grpc.RpcError as error:
            if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise too_slow(caller.timeout) from None
            raise refusal_from(error) from None


def too_slow(seconds: float) -> Stop:
    """Return the failure of a call that had no answer in time."""
    return Stop(
        f"no answer within {seconds:g} seconds: it may have been done all the same, so look before you repeat it, or "
        "wait longer with --timeout",
        Exit.STOPPED,
    )
