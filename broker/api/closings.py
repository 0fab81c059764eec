"""How far a barrier is closed, on the wire."""

from __future__ import annotations

from datetime import datetime, timedelta
from types import MappingProxyType

from google.protobuf.message import Message

from broker.api import requests
from broker.model.errors import invalid
from broker.model.principal import Principal
from broker.revocation.closing import Closing, State
from broker.v1 import closing_pb2 as pb
from broker.wire.times import instant_to_wire

_STATES = MappingProxyType(
    {
        State.CLOSED: pb.CLOSING_STATE_CLOSED,
        State.PARTIAL: pb.CLOSING_STATE_PARTIAL,
        State.UNKNOWN: pb.CLOSING_STATE_UNKNOWN,
    }
)


def within(request: Message) -> timedelta | None:
    """Parse for how long a caller waits for a barrier; None: until it is closed.

    Raises:
        Refusal: INVALID_ARGUMENT.
    """
    seconds = requests.lifetime(request, "barrier_within")
    if seconds is not None and not getattr(request, "barrier"):  # noqa: B009 (a field of several messages)
        raise invalid("barrier_within", "is for a barrier: set `barrier`, too")
    return seconds


def closing_to_wire(closing: Closing, caller: Principal, now: datetime) -> pb.Closing:
    """Return a closing as a message, with the names that a caller may know."""
    named = closing.named_to(caller.tenant)
    is_closed = named.state is State.CLOSED
    return pb.Closing(
        state=_STATES[named.state],
        confirmed_verifiers=named.confirmed,
        stale_verifiers=named.stale,
        awaited_verifiers=[name for _, name in named.awaited],
        more_awaited=named.more,
        close_time=None if is_closed else instant_to_wire(now + timedelta(seconds=named.seconds)),
    )
