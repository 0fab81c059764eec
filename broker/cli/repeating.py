"""Calls of the command line are sent again, as the SDK's are: a broker that restarts is no reason to fail.

This imports gRPC, so commands import it when they run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from google.protobuf.message import Message

from broker.cli.output import note, printable
from broker.model.clock import Ids
from broker.model.errors import Reason
from broker.sdk.connect.connection import open_channel
from broker.sdk.connect.diagnosis import explain
from broker.sdk.connect.identity import Credentials
from broker.sdk.connect.patience import AGAIN, Patience, attempt_of
from broker.sdk.connect.refusals import refusal_from, words_of_the_broker
from broker.sdk.connect.ring import Ring
from broker.system import uuid7

_ONCE = ("CreateLock", "DeleteLock")
"""What would do something else when done twice, and has no request id."""

_NO_CONNECTION = "failed to connect to all addresses"  # as gRPC's core says it


class Repeating:
    """What a stub takes for a channel: sends a call again, under one request id, until it is answered or out of time.

    Of several brokers it asks one, and the next when that cannot be reached, or cannot do it just now.
    """

    def __init__(self, addresses: Sequence[str], credentials: Credentials, ids: Ids = uuid7) -> None:
        """Make one for these addresses, at which these credentials are shown."""
        self._ring = Ring(addresses)
        self._credentials = credentials
        self._ids = ids
        self._channels: dict[str, grpc.Channel] = {}

    def unary_unary(self, method: str, **how: Any) -> Callable[..., Message]:  # noqa: ANN401 (a stub says the rest)
        """Return an RPC, as a stub wants it."""

        def call(request: Message, timeout: float) -> Message:
            return self._answer(method, request, timeout, lambda channel: channel.unary_unary(method, **how))

        return call

    def close(self) -> None:
        """Close the channels."""
        for channel in self._channels.values():
            channel.close()

    def _answer(self, method: str, request: Message, timeout: float, rpc: Callable[[grpc.Channel], Any]) -> Message:
        """Make the attempts.

        Raises:
            grpc.RpcError: what the broker said last.
            Refusal: no broker can be reached, and it could be found out why.
        """
        barrier = getattr(request, "barrier", False)  # for which verifiers are waited for
        patience = Patience(timeout, attempt=attempt_of(timeout, barrier=barrier))
        repeated, first, asked = _make_repeatable(method, request, self._ids), True, set[str]()
        while True:
            asked.add(address := self._ring.address)
            try:
                return rpc(self._channel(address))(request, timeout=patience.attempt())  # type: ignore[no-any-return]
            except grpc.RpcError as error:
                refusal = refusal_from(error)
                if refusal.reason in AGAIN:
                    self._ring.leave(address)
                elsewhere = self._ring.address not in asked
                seconds = patience.pause(refusal, elsewhere=elsewhere) if repeated or _is_unsent(error) else None
                if _is_lost(error) and (seconds is None or (first and not elsewhere)):
                    refusal, passes = explain(self._ring.addresses, self._credentials, refusal)
                    seconds = seconds if passes else None
                if seconds is None:
                    raise refusal if _is_lost(error) else error from None
            if first and not elsewhere:
                note(printable(f"{refusal.message}: trying again, for {timeout:g} seconds in all"))
                first = False
            time.sleep(seconds)

    def _channel(self, address: str) -> grpc.Channel:
        if address not in self._channels:
            self._channels[address] = open_channel(address, self._credentials)
        return self._channels[address]


def _make_repeatable(method: str, request: Message, ids: Ids) -> bool:
    """Set the id of a request that can have one; report whether it may be sent twice."""
    if "request_id" in request.DESCRIPTOR.fields_by_name and not getattr(request, "request_id", ""):
        request.request_id = ids()  # type: ignore[attr-defined]  # it has that field
    return method.rpartition("/")[2] not in _ONCE and not getattr(request, "lock", False)


def _is_lost(error: grpc.RpcError) -> bool:
    """Report whether the broker was not reached. That it was too slow is something else: it may have done it."""
    slow = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    return not slow and words_of_the_broker(error) is None and refusal_from(error).reason is Reason.UNAVAILABLE


def _is_unsent(error: grpc.RpcError) -> bool:
    """Report whether there was no connection over which the call could have gone."""
    return error.code() is grpc.StatusCode.UNAVAILABLE and (error.details() or "").startswith(_NO_CONNECTION)
