"""Calls of the command line are sent again, as the SDK's are: a broker that restarts is no reason to fail.

This imports gRPC, so commands import it when they run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import Message

from broker.cli.output import note, printable
from broker.model.clock import Ids
from broker.model.errors import Reason, Refusal
from broker.sdk.connect.diagnosis import diagnose
from broker.sdk.connect.identity import Credentials
from broker.sdk.connect.patience import Patience
from broker.sdk.connect.refusals import refusal_from, words_of_the_broker
from broker.system import uuid7

_ATTEMPT_SECONDS = 10.0
_ONCE = ("CreateLock", "DeleteLock")
"""What would do something else when done twice, and has no request id."""


class Repeating(grpc.UnaryUnaryClientInterceptor):
    """Sends a call again, under one request id, until it is answered or its timeout is over."""

    def __init__(self, address: str, credentials: Credentials, ids: Ids = uuid7) -> None:
        """Make one for a channel to an address, on which these credentials are shown."""
        self._address = address
        self._credentials = credentials
        self._ids = ids

    def intercept_unary_unary(
        self,
        continuation: Callable[[Any, Any], Any],
        client_call_details: Any,  # noqa: ANN401 (gRPC says no more of these)
        request: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Make the attempts.

        Raises:
            Refusal: the broker cannot be reached, and it could be found out why.
        """
        details = client_call_details
        barrier = getattr(request, "barrier", False)  # for which verifiers are waited for
        patience = Patience(details.timeout, attempt=details.timeout if barrier else _ATTEMPT_SECONDS)
        repeated, first = _make_repeatable(details.method, request, self._ids), True
        while True:
            outcome = continuation(details._replace(timeout=patience.attempt()), request)
            if not isinstance(outcome, grpc.RpcError):
                return outcome
            refusal = refusal_from(outcome)
            seconds = patience.pause(refusal) if repeated else None
            if _is_lost(outcome) and (seconds is None or first):
                refusal, passes = self._explain(refusal)
                seconds = seconds if passes else None
            if seconds is None:
                if _is_lost(outcome):
                    raise refusal
                return outcome
            if first:
                note(printable(f"{refusal.message}: trying again, for {details.timeout:g} seconds in all"))
            first = False
            time.sleep(seconds)

    def _explain(self, refusal: Refusal) -> tuple[Refusal, bool]:
        """Look why the broker cannot be reached; report whether waiting may help, too."""
        found = diagnose(self._address, self._credentials)
        return (refusal, True) if found is None else (found.refusal, found.passes)


def _make_repeatable(method: str, request: Message, ids: Ids) -> bool:
    """Set the id of a request that can have one; report whether it may be sent twice."""
    if "request_id" in request.DESCRIPTOR.fields_by_name and not getattr(request, "request_id", ""):
        request.request_id = ids()  # type: ignore[attr-defined]  # it has that field
    return method.rpartition("/")[2] not in _ONCE and not getattr(request, "lock", False)


def _is_lost(outcome: grpc.RpcError) -> bool:
    """Report whether the broker was not reached. That it was too slow is something else: it may have done it."""
    slow = outcome.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    return not slow and words_of_the_broker(outcome) is None and refusal_from(outcome).reason is Reason.UNAVAILABLE
