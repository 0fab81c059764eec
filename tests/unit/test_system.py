"""Ids are version 7 UUIDs, ascending with time, and never the same twice."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from broker.system import uuid7, uuid7_in_bulk


@pytest.mark.parametrize("make", [uuid7, uuid7_in_bulk()], ids=["one", "in bulk"])
def test_an_id_is_a_uuid_of_version_7_that_says_when_it_was_made(make: Callable[[], str]) -> None:
    before = datetime.now(UTC)  # noqa: TID251 (what is measured)
    ids = [make() for _ in range(1_000)]
    after = datetime.now(UTC)  # noqa: TID251
    for text in ids:
        parsed = uuid.UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 7, uuid.RFC_4122)
        assert int(before.timestamp() * 1_000) <= parsed.int >> 80 <= int(after.timestamp() * 1_000)
    assert len(set(ids)) == len(ids)


def test_threads_that_share_a_maker_never_get_the_same() -> None:
    make = uuid7_in_bulk()
    made: list[list[str]] = [[] for _ in range(8)]

    def make_some(mine: list[str]) -> None:
        mine.extend(make() for _ in range(3_000))

    threads = [threading.Thread(target=make_some, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    random_parts = [text[19:] for mine in made for text in mine]
    assert len(set(random_parts)) == len(random_parts) == 24_000
