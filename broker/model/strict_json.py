"""JSON of the kind that two parsers cannot read differently: UTF-8, each member once, no NaN and no infinity."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn


def parse(
    data: bytes,
    *,
    fractions: bool,
    integer: Callable[[str], int] = int,
    fraction: Callable[[str], float] = float,
) -> Any:  # noqa: ANN401 (any JSON)
    """Parse a document (RFC 8259, and RFC 7493 section 2.3). Numbers with a fraction or exponent only if `fractions`.

    Raises:
        ValueError: it is anything else; or `integer` or `fraction`, which make the numbers, say so.
    """
    try:
        return json.loads(
            data.decode(),
            object_pairs_hook=_unique,
            parse_constant=_no_number,
            parse_float=fraction if fractions else _no_number,
            parse_int=integer,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is there twice")
    return members


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"`{text}` is not a number of this kind")
