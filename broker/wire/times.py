"""Instants and durations."""

from __future__ import annotations

from datetime import datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from broker.model.clock import from_micros, to_micros
from broker.model.errors import invalid

_MICROS = 1_000_000
_LATEST_SECONDS = 253_402_300_799  # the end of the year 9999
_LONGEST_SECONDS = 315_576_000_000  # as google.protobuf.Duration says
_NANOS = 1_000_000_000


def instant_to_wire(instant: datetime) -> Timestamp:
    """Return an instant as a Timestamp, to the microsecond."""
    seconds, micros = divmod(to_micros(instant), _MICROS)
    return Timestamp(seconds=seconds, nanos=micros * 1_000)


def instant_from_wire(message: Timestamp, field: str) -> datetime:
    """Parse a Timestamp, rounding down to the microsecond.

    Raises:
        Refusal: INVALID_ARGUMENT, if it is not from 1970 to 9999.
    """
    if not (0 <= message.seconds <= _LATEST_SECONDS and 0 <= message.nanos < _NANOS):
        raise invalid(field, "must be an instant from 1970 to 9999")
    return from_micros(message.seconds * _MICROS + message.nanos // 1_000)


def duration_to_wire(duration: timedelta) -> Duration:
    """Return a duration that is not negative as a Duration."""
    seconds, micros = divmod(duration // timedelta(microseconds=1), _MICROS)
    return Duration(seconds=seconds, nanos=micros * 1_000)


def duration_from_wire(message: Duration, field: str) -> timedelta:
    """Parse a Duration that is not negative.

    Raises:
        Refusal: INVALID_ARGUMENT.
    """
    if not (0 <= message.seconds <= _LONGEST_SECONDS and 0 <= message.nanos < _NANOS):
        raise invalid(field, "must be a duration that is not negative, of at most 10,000 years")
    return timedelta(seconds=message.seconds, microseconds=message.nanos // 1_000)
