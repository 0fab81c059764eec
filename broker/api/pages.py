"""Lists that end: by number, as the caller asks, and by bytes, since gRPC clients take 4 MiB."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import Message

from broker.model.errors import invalid

Item = TypeVar("Item")
Sent = TypeVar("Sent", bound=Message)

_LARGEST = 3 * 1024 * 1024  # of 4, which leaves room for what goes around the items
_MOST = 1_000
_USUAL = 100


@dataclass(frozen=True, slots=True)
class Page:
    """Which page is asked for. `position` is where it begins, in the terms of the list; None: at the beginning."""

    position: int | None
    size: int

    def of(
        self, items: Sequence[Item], to_wire: Callable[[Item], Sent], following: Callable[[Item], int]
    ) -> tuple[list[Sent], str]:
        """Return the messages of the page, and the token of the next one; empty, if there is none.

        `items` is what is there, at most `size` of it; `following` says where the page behind an item begins.
        """
        sent = next(pieces(to_wire(item) for item in items), [])
        is_last = len(sent) == len(items) < self.size
        return sent, "" if is_last else str(following(items[len(sent) - 1]))


def page(request: Message, usual: int = _USUAL) -> Page:
    """Parse `page_size` and `page_token`."""
    size = request.page_size or usual  # type: ignore[attr-defined]
    if not 1 <= size <= _MOST:
        raise invalid("page_size", f"must be from 1 to {_MOST}, or 0 for {usual}")
    token: str = request.page_token  # type: ignore[attr-defined]
    if token and not re.fullmatch(r"\d{1,18}", token, re.ASCII):
        raise invalid("page_token", "must be the `next_page_token` of the answer before, or empty")
    return Page(int(token) if token else None, size)


def pieces(messages: Iterable[Sent]) -> Iterator[list[Sent]]:
    """Divide messages into pieces that can be sent, in order; none is empty."""
    piece: list[Sent] = []
    size = 0
    for message in messages:
        more = message.ByteSize()
        if piece and size + more > _LARGEST:
            yield piece
            piece, size = [], 0
        piece.append(message)
        size += more
    if piece:
        yield piece
