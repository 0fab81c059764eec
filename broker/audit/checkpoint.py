"""Checkpoints: the text that is signed, as in C2SP tlog-checkpoint v1.0.0."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from broker.audit.tree import HASH_SIZE

_LINES = 3


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree's head: whose tree, how many leaves, which root."""

    origin: str
    size: int
    root: bytes


def format(checkpoint: Checkpoint) -> str:  # noqa: A001 (`checkpoint.format` reads as what it is)
    """Return the text: origin, size in decimal, root in base64, a line each."""
    return f"{checkpoint.origin}\n{checkpoint.size}\n{base64.b64encode(checkpoint.root).decode()}\n"


def parse(text: str) -> Checkpoint:
    """Parse a checkpoint's text. Extension lines, which the format allows, are refused: we write none.

    Raises:
        ValueError: it is not exactly what `format` gives.
    """
    lines = text.split("\n")
    if len(lines) != _LINES + 1 or lines[-1] or not lines[0]:
        msg = "a checkpoint has three lines"
        raise ValueError(msg)
    try:
        checkpoint = Checkpoint(lines[0], int(lines[1]), base64.b64decode(lines[2], validate=True))
    except (ValueError, binascii.Error) as error:
        msg = "a checkpoint's second line is its size, its third its root"
        raise ValueError(msg) from error
    if checkpoint.size < 0 or len(checkpoint.root) != HASH_SIZE or format(checkpoint) != text:
        msg = "the checkpoint is not in canonical form"
        raise ValueError(msg)
    return checkpoint
