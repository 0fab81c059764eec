"""The arguments of a call, as the JSON that constraints look at."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message


def arguments_of(request: Any) -> object:  # noqa: ANN401 (whatever the server's deserializer makes)
    """Return a protobuf message as JSON: set fields by their proto names, integers as integers, enums as names.

    A proto3 field without `optional` is set if it is not its default: 0, "", false and an empty list are absent. Bytes
    and floating-point numbers keep no constraint but PRESENT. What is no message is given as it is.
    """
    if not isinstance(request, Message):
        return request
    return {descriptor.name: _field(descriptor, value) for descriptor, value in request.ListFields()}


def _field(descriptor: FieldDescriptor, value: Any) -> object:  # noqa: ANN401
    kind = descriptor.message_type
    if kind is not None and kind.GetOptions().map_entry:
        items = kind.fields_by_name["value"]
        return {_key(key): _single(items, item) for key, item in value.items()}
    if descriptor.is_repeated:
        return [_single(descriptor, item) for item in value]
    return _single(descriptor, value)


def _key(key: object) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _single(descriptor: FieldDescriptor, value: Any) -> object:  # noqa: ANN401
    if descriptor.enum_type is not None:
        named = descriptor.enum_type.values_by_number.get(value)
        return value if named is None else named.name
    return arguments_of(value)
