"""Instants and durations cross the wire to the microsecond, or not at all."""

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from broker.model.errors import Reason, Refusal
from broker.wire.times import duration_from_wire, duration_to_wire, instant_from_wire, instant_to_wire

instants = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999_999)).map(  # noqa: DTZ001 (made aware)
    lambda instant: instant.replace(tzinfo=UTC)
)
durations = st.timedeltas(timedelta(), timedelta(days=3_000_000))


@given(instants)
def test_an_instant_comes_back_exactly(instant: datetime) -> None:
    assert instant_from_wire(instant_to_wire(instant), "deadline") == instant


@given(instants)
def test_an_instant_is_what_protobuf_itself_would_write(instant: datetime) -> None:
    stock = Timestamp()
    stock.FromDatetime(instant)
    assert instant_to_wire(instant) == stock


@given(durations)
def test_a_duration_comes_back_exactly(duration: timedelta) -> None:
    assert duration_from_wire(duration_to_wire(duration), "lifetime") == duration


def test_nanoseconds_round_down() -> None:
    assert instant_from_wire(Timestamp(seconds=1, nanos=1_999), "deadline").microsecond == 1
    assert duration_from_wire(Duration(seconds=1, nanos=1_999), "lifetime") == timedelta(seconds=1, microseconds=1)


@pytest.mark.parametrize(
    "message",
    [
        Timestamp(seconds=-1),
        Timestamp(seconds=253_402_300_800),
        Timestamp(nanos=-1),
        Timestamp(nanos=1_000_000_000),
        Timestamp(seconds=2**63 - 1),
    ],
)
def test_an_instant_out_of_range_is_refused_by_name(message: Timestamp) -> None:
    with pytest.raises(Refusal) as refused:
        instant_from_wire(message, "deadline")
    assert refused.value.reason is Reason.INVALID_ARGUMENT
    assert refused.value.violations[0].field == "deadline"


@pytest.mark.parametrize(
    "message",
    [
        Duration(seconds=-1),
        Duration(nanos=-1),
        Duration(seconds=315_576_000_001),
        Duration(nanos=1_000_000_000),
        Duration(seconds=2**63 - 1),
    ],
)
def test_a_duration_out_of_range_is_refused_by_name(message: Duration) -> None:
    with pytest.raises(Refusal) as refused:
        duration_from_wire(message, "lifetime")
    assert refused.value.violations[0].field == "lifetime"
