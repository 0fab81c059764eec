"""JSON of the kind that two parsers cannot read differently: UTF-8, each member once, no NaN and no infinity.

Nor half a character: a lone surrogate is JSON, but no text (RFC 8259 section 8.2), and cannot be stored or sent on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NoReturn

_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def parse(
    data: bytes,
    *,
    fractions: bool,
    integer: Callable[[str], int] = int,
    fraction: Callable[[str], float] = float,
    halves: bool = False,
) -> Any:  # noqa: ANN401 (any JSON)
    """Parse a document (RFC 8259, and RFC 7493 sections 2.1 and 2.3). Numbers with a fraction only if `fractions`.

    `halves` of characters are taken only where what is read is somebody else's, and goes no further as text.

    Raises:
        ValueError: it is anything else; or `integer` or `fraction`, which make the numbers, say so.
    """
    text = data.decode()
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_no_number,
            parse_float=fraction if fractions else _no_number,
            parse_int=integer,
        )
        if not halves and _HALF.search(text):
            _check_whole(value)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    return value


def _check_whole(value: object) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = ord(error.object[error.start])
        raise ValueError(f"a text in it holds half a character (`\\u{half:04x}` without its other half)") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is there twice")
    return members


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"`{text}` is not a number of this kind")
