"""The keys in use, and when they change."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.credential.keys import EcSigner, KeySet
from broker.keystore import folder
from broker.keystore.folder import Keys
from broker.model.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """When keys change: one signs for `every`, the next is published `lead` before its turn; tokens live `longest`."""

    every: timedelta
    lead: timedelta
    longest: timedelta


class Keystore:
    """The keys of a folder, as last read, and their rotation."""

    def __init__(self, directory: Path, rotation: Rotation, clock: Clock) -> None:
        """Read the keys.

        Raises:
            KeyFileError: they cannot be used.
        """
        self._directory = directory
        self._rotation = rotation
        self._clock = clock
        self._keys = folder.open_keys(directory)

    @property
    def checkpoint(self) -> Ed25519PrivateKey:
        """Return the key that signs the ledger's checkpoints. It never rotates."""
        return self._keys.checkpoint

    def signer(self) -> EcSigner:
        """Return the key that signs tokens now."""
        return self._keys.signer(self._clock())

    def published(self) -> KeySet:
        """Return the public keys that verify tokens now."""
        return self._keys.published()

    def kids(self) -> list[str]:
        """List the ids of the published keys."""
        return [life.kid for life in self._keys.keyring.lives]

    async def rotate(self) -> bool:
        """Publish the next key when it is time, and drop those whose last token is dead; report whether any changed.

        What another broker or an operator has done to the folder counts as well.

        Raises:
            KeyFileError: the keys cannot be used. Those that were read last stay in use.
            OSError: the folder cannot be written.
        """
        before = self._keys.keyring
        self._keys = await asyncio.to_thread(self._rotated)
        return self._keys.keyring != before

    def _rotated(self) -> Keys:
        now, directory, rotation = self._clock(), self._directory, self._rotation
        keys = folder.drop_gone(directory, folder.open_keys(directory), now, rotation.longest)
        if keys.keyring.wants_next(now, rotation.every, rotation.lead):
            keys = folder.publish_next(directory, keys, now + rotation.lead)
        return keys
