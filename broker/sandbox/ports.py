"""Ports for servers that have to be told theirs before they start."""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress

_FIRST, _COUNT = 20_000, 12_000  # below those that systems give to whoever asks for any, and to connections


def free_port() -> int:
    """Choose a port that nothing listens on, where it is unlikely that anybody else will listen meanwhile."""
    while True:
        port = _FIRST + secrets.randbelow(_COUNT)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
