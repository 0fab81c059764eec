"""The line between a worker and its parent, on which each hears at once that the other is gone.

A worker says that it lives, again and again, from its event loop: whoever is stopped, or hangs, is silent. Whatever
else it says is for the other workers, and the parent passes it on as it is. Nothing rests on what is said here: a word
for which there is no room is lost, and whoever would have acted on it finds out for itself a little later.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

_LARGEST_WORD = 8_192
LIVES = b"lives"
SERVES = b"serves"
_BEAT_SECONDS = 0.4


def pair() -> tuple[socket.socket, socket.socket]:
    """Make the two ends of a line. What is sent in one piece arrives in one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


def say(end: socket.socket, word: bytes) -> None:
    """Say something, if the other end can take it."""
    with suppress(OSError):
        end.send(word)


def hear(end: socket.socket) -> list[bytes] | None:
    """Take all that was said; None if the other end is gone."""
    words: list[bytes] = []
    try:
        while word := end.recv(_LARGEST_WORD):
            words.append(word)
    except BlockingIOError:
        return words
    except ConnectionError:
        return None
    return None


class Line:
    """A worker's end."""

    def __init__(self, end: socket.socket) -> None:
        """Take the end; `run` brings it to life."""
        self._end = end

    async def run(self, heard: Callable[[bytes], None], orphaned: Callable[[], None]) -> None:
        """Say that we live, and listen, until cancelled.

        `heard` is called with what another worker has said, `orphaned` when there is no parent any more.
        """
        loop = asyncio.get_running_loop()

        def listen() -> None:
            words = hear(self._end)
            if words is None:
                loop.remove_reader(self._end)
                orphaned()
            for word in words or ():
                heard(word)

        loop.add_reader(self._end, listen)
        try:
            while True:
                say(self._end, LIVES)
                await asyncio.sleep(_BEAT_SECONDS)
        finally:
            loop.remove_reader(self._end)

    def serves(self) -> None:
        """Say that we serve."""
        say(self._end, SERVES)

    def tell(self, word: bytes) -> None:
        """Say something to the other workers."""
        say(self._end, word)
