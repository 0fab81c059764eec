"""Rotate the token keys, and tell whom it concerns: other brokers by the ledger, and verifiers by the feed."""

from __future__ import annotations

import structlog

from broker.keystore.signing import TokenKeys
from broker.lease import activation
from broker.lease.desk import Desk
from broker.revocation.feed import Feed


async def rotate(keys: TokenKeys, feed: Feed, desk: Desk) -> None:
    """Rotate our keys if it is time, announce what is new of them, and delete those of which nothing is left.

    Raises:
        KeyFileError, OSError: the keys cannot be used or written.
        Refusal: LEDGER_UNAVAILABLE; QUOTA_EXCEEDED, if there is no room for our keys.
    """
    await keys.keystore.rotate(keys.announced())
    if await activation.keys_announced(desk, keys):
        structlog.get_logger("keys").info("keys.rotated", published=[key.kid for key in keys.announced().keys])
        feed.wake()
    await keys.keystore.settle(keys.announced())
