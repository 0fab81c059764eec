"""Lists that come in pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import TypeVar

_Item = TypeVar("_Item")
_LARGEST_PAGE = 1000


def take(limit: int, page: Callable[[int, str], tuple[Sequence[_Item], str]]) -> tuple[list[_Item], bool]:
    """Fetch at most `limit` items; report whether there are more, too.

    `page` takes a size and a page token, and gives items and the next token.
    """
    items: list[_Item] = []
    token = ""
    while True:
        fetched, token = page(min(_LARGEST_PAGE, limit - len(items)), token)
        items.extend(islice(fetched, limit - len(items)))
        if not token or len(items) >= limit:
            return items, bool(token)
