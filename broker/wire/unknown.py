"""Unknown fields are refused: a request must not mean less to the broker than to its sender."""

from __future__ import annotations

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from broker.model.errors import invalid


def refuse_unknown(message: Message) -> None:
    """Refuse a message that has fields this version does not know, at any depth.

    Raises:
        Refusal: INVALID_ARGUMENT, naming the message's place.
    """
    known = type(message)()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    if known.ByteSize() != message.ByteSize():
        _name_unknown(message, "")


def _name_unknown(message: Message, field: str) -> None:
    unknown = UnknownFieldSet(message)
    if len(unknown):
        number = unknown[0].field_number
        raise invalid(field or "request", f"has the unknown field {number}; is the client newer than the broker?")
    for descriptor, value in message.ListFields():
        if descriptor.type != FieldDescriptor.TYPE_MESSAGE:
            continue
        if isinstance(value, Message):
            _name_unknown(value, f"{field}.{descriptor.name}".lstrip("."))
        else:
            for number, item in enumerate(value):
                _name_unknown(item, f"{field}.{descriptor.name}[{number}]".lstrip("."))
