"""Entries as bytes: one value has one form, and that form is what is hashed.

The form is the subset of RFC 8785 (JSON Canonicalization Scheme) that has no numbers but integers: members sorted, no
white space, UTF-8. An entry is at most 65,535 bytes, the limit of C2SP tlog-tiles.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import cast

from broker.model import strict_json
from broker.model.clock import to_micros
from broker.model.entry import Entry, Json

MAX_BODY = 65_535
_LARGEST_INTEGER = 2**53 - 1

_dumps = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


class MalformedEntry(ValueError):
    """The bytes are not an entry in its canonical form."""


class EntryTooLong(MalformedEntry):
    """An entry of `size` bytes, which are more than MAX_BODY."""

    def __init__(self, size: int) -> None:
        self.size = size
        super().__init__(f"an entry of {size} bytes is longer than {MAX_BODY}")


def json_bytes(value: Mapping[str, object]) -> bytes:
    """Return the canonical bytes of a JSON object whose values are `Json`."""
    return _dumps(value).encode()


def encode(entry: Entry) -> bytes:
    """Return the canonical bytes of an entry.

    Raises:
        EntryTooLong: it would be longer than MAX_BODY.
    """
    body = json_bytes(
        {
            "v": 1,
            "kind": entry.kind.value,
            "at": to_micros(entry.at),
            "tenant": entry.tenant,
            "task_id": entry.task_id,
            "observed": entry.observed,
            "asserted": entry.asserted,
            "decided": entry.decided,
            "effected": entry.effected,
        }
    )
    if len(body) > MAX_BODY:
        raise EntryTooLong(len(body))
    return body


def decode(body: bytes) -> dict[str, Json]:
    """Parse an entry, strictly.

    Raises:
        MalformedEntry: it is not JSON of the subset, or not in its canonical form.
    """
    if not isinstance(body, bytes):  # SQLite keeps in a cell whatever it is given
        msg = "the entry is no bytes"
        raise MalformedEntry(msg)
    try:
        value = strict_json.parse(body, fractions=False, integer=_integer)
    except ValueError as error:
        raise MalformedEntry(str(error)) from error
    if not isinstance(value, dict) or json_bytes(value) != body:
        msg = "the entry is not in canonical form"
        raise MalformedEntry(msg)
    return cast("dict[str, Json]", value)


def commit(salt: bytes, text: str) -> str:
    """Commit to a text without showing it: SHA-256 of salt and text, in hex. The salt has 32 bytes."""
    return hashlib.sha256(salt + text.encode()).hexdigest()


def _integer(text: str) -> int:
    value = int(text)
    if abs(value) > _LARGEST_INTEGER:
        msg = f"`{text}` is out of range"
        raise ValueError(msg)
    return value
