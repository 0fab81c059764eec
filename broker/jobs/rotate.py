"""Rotate the signing keys, and tell whom it concerns: verifiers, and the ledger."""

from __future__ import annotations

import structlog

from broker.keystore.rotation import Keystore
from broker.lease import activation
from broker.lease.desk import Desk
from broker.revocation.feed import Feed


async def rotate(keystore: Keystore, feed: Feed, desk: Desk) -> None:
    """Rotate the keys if it is time.

    Raises:
        KeyFileError, OSError: the keys cannot be used or written.
        Refusal: LEDGER_UNAVAILABLE.
    """
    if await keystore.rotate():
        structlog.get_logger("keys").info("keys.rotated", published=keystore.kids())
        feed.keys_changed()
        await activation.keys_rotated(desk, keystore.kids())
