"""A broker's token keys, as the ledger of its world announces them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from broker.keystore.announcing import Rotation
from broker.keystore.rotation import Keystore
from broker.keystore.signing import TokenKeys
from tests.support.world import World

ROTATION = Rotation(
    every=timedelta(days=30), lead=timedelta(days=1), longest=timedelta(hours=1), spread=timedelta(seconds=10)
)


def token_keys(world: World, folder: Path, monotonic: Callable[[], float] = time.monotonic) -> TokenKeys:
    """Return the keys in a folder, for a broker without doors."""
    keystore = Keystore(folder, ROTATION, world.clock)
    return TokenKeys(keystore, lambda: world.follower.in_force.announced, monotonic)
