"""Protobuf messages as plain documents: the proto's field names, and values that read well.

Instants are RFC 3339, durations are seconds, enums are lower-case words, bytes are hex; what is absent is null.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Any, cast

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from broker.v1.grant_pb2 import Scalar


def plain(message: Message) -> dict[str, Any]:
    """Write a message as a JSON object, in the order of its fields. A oneof shows only the member that is set."""
    fields = cast("Sequence[FieldDescriptor]", message.DESCRIPTOR.fields)  # typed as either of two implementations
    return {
        field.name: _field(message, field)
        for field in fields
        if field.containing_oneof is None or _is_optional(field) or message.HasField(field.name)
    }


def _is_optional(field: FieldDescriptor) -> bool:
    # `optional` in proto3 is a oneof of one, which the compiler makes and names with an underscore.
    oneof = field.containing_oneof
    return oneof is not None and oneof.name.startswith("_")


def _field(message: Message, field: FieldDescriptor) -> object:
    value = getattr(message, field.name)
    if field.is_repeated:
        return [_value(item, field) for item in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    return _value(value, field)


def _value(value: object, field: FieldDescriptor) -> object:
    match value:
        case Timestamp() | Duration():
            return _time(value)
        case Scalar():
            return getattr(value, value.WhichOneof("kind") or "text")
        case Message():
            return plain(value)
        case bytes():
            return value.hex()
        case int() if field.enum_type is not None:
            return _word(field.enum_type, value)
        case _:
            return value


def _time(value: Timestamp | Duration) -> str | float:
    if isinstance(value, Duration):
        return value.ToTimedelta().total_seconds()
    return value.ToDatetime(UTC).isoformat().replace("+00:00", "Z")


def _word(enum: EnumDescriptor, number: int) -> str:
    """Name an enum's value without the enum's prefix: LEASE_STATE_LIVE is `live`."""
    values = enum.values_by_number
    if number not in values:
        return str(number)
    prefix = values[0].name.removesuffix("UNSPECIFIED")
    return values[number].name.removeprefix(prefix).lower()
