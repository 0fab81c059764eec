"""The parameters of a request: a form whose every parameter is there once (RFC 6749 section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request

from broker.model.errors import invalid

_TYPE = "application/x-www-form-urlencoded"
_LARGEST = 64 * 1024
_MOST = 32


@dataclass(frozen=True, slots=True)
class Form:
    """Parameters by name. One that is empty is not there."""

    values: Mapping[str, str]

    def get(self, name: str) -> str:
        """Return a parameter; empty, if it is not there."""
        return self.values.get(name, "")

    def required(self, name: str) -> str:
        """Return a parameter that must be there.

        Raises:
            Refusal: INVALID_ARGUMENT.
        """
        value = self.get(name)
        if not value:
            raise invalid(name, "is required")
        return value


async def read_form(request: Request) -> Form:
    """Read the form of a request.

    Raises:
        Refusal: INVALID_ARGUMENT: it is none, too large, or has a parameter twice.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _TYPE:
        raise invalid("content-type", f"must be {_TYPE}")
    body = await _body(request)
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST)
    except ValueError as error:
        raise invalid("body", f"must be a form of at most {_MOST} parameters in UTF-8") from error
    values = dict(pairs)
    if len(values) != len(pairs):
        twice = next(name for name in values if [key for key, _ in pairs].count(name) > 1)
        raise invalid(twice if twice.isidentifier() else "body", "must be there once")
    return Form({name: value for name, value in values.items() if value})


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > _LARGEST:
                raise invalid("body", f"must be at most {_LARGEST // 1024} KiB")
    except ClientDisconnect as error:
        raise invalid("body", "did not come whole") from error
    return bytes(body)
