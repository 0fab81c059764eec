"""The keys of a folder, and when they change."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.audit.effects import KeysAnnounced
from broker.keystore import folder
from broker.keystore.announcing import Rotation
from broker.keystore.folder import Keys
from broker.keystore.keyring import Keyring
from broker.model.clock import Clock


class Keystore:
    """The keys of a folder, as last read, and their rotation. What is announced of them is the ledger's to say."""

    def __init__(self, directory: Path, rotation: Rotation, clock: Clock) -> None:
        """Read the keys.

        Raises:
            KeyFileError: they cannot be used.
        """
        self.rotation = rotation
        self.clock = clock
        self.keys = folder.open_keys(directory)
        self._directory = directory

    @property
    def checkpoint(self) -> Ed25519PrivateKey:
        """Return the key that signs the ledger's checkpoints. It never rotates."""
        return self.keys.checkpoint

    async def rotate(self, announced: KeysAnnounced) -> None:
        """Make the next key when it is time, and another where ours were withdrawn.

        What another broker or an operator has done to the folder counts as well.

        Raises:
            KeyFileError: the keys cannot be used. Those that were read last stay in use.
            OSError: the folder cannot be written.
        """
        keys = await asyncio.to_thread(self._rotated, announced)
        if keys.keyring != self.keys.keyring:
            self.keys = keys

    async def settle(self, announced: KeysAnnounced) -> None:
        """Delete the keys whose last token is dead, and forget what was to be withdrawn, once the ledger says so.

        Raises:
            KeyFileError, OSError: as `rotate`.
        """
        if self.keys.keyring.withdrawn or self._dead(self.keys.keyring, announced):
            self.keys = await asyncio.to_thread(self._settled, announced)

    def _rotated(self, announced: KeysAnnounced) -> Keys:
        now, directory, rotation = self.clock(), self._directory, self.rotation
        with folder.held(directory):
            keys = folder.open_keys(directory)
            withdrawn = [life.kid for life in keys.keyring.lives if life.kid in announced.withdrawn]
            if withdrawn:
                keys = folder.withdraw(directory, keys, withdrawn, now)
            if keys.keyring.wants_next(now, rotation.every, rotation.lead):
                keys = folder.publish_next(directory, keys, now + rotation.lead)
            return keys

    def _settled(self, announced: KeysAnnounced) -> Keys:
        with folder.held(self._directory):
            keys = folder.open_keys(self._directory)
            return folder.drop(self._directory, keys, self._dead(keys.keyring, announced), announced.withdrawn)

    def _dead(self, keyring: Keyring, announced: KeysAnnounced) -> Collection[str]:
        signs = {key.kid for key in announced.keys}
        return [kid for kid in keyring.gone(self.clock(), self.rotation.kept) if kid not in signs]
