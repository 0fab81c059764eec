"""Databases that answer nothing for a while."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, event
from sqlalchemy.exc import TimeoutError as PoolTimeout


@contextmanager
def failing(kind: type[Exception]) -> Iterator[threading.Event]:
    """Let every statement fail, of readers, writer and feed; the event says that the feed has met it."""
    met = threading.Event()

    def fail(*_arguments: object) -> None:
        if threading.current_thread().name.startswith("feed"):
            met.set()
        raise kind("away") if kind is PoolTimeout else kind(None, None, Exception("away"))

    event.listen(Engine, "before_cursor_execute", fail)
    try:
        yield met
    finally:
        event.remove(Engine, "before_cursor_execute", fail)
