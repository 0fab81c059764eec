"""Rotate the signing keys."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from broker.credential import keyfiles
from broker.credential.keyfiles import Keys
from broker.credential.keys import KeySet
from broker.model.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """When keys change: one signs for `every`, the next is published `lead` before its turn; tokens live `longest`."""

    every: timedelta
    lead: timedelta
    longest: timedelta


class KeyRoom:
    """The keys in use, and their rotation."""

    def __init__(self, directory: Path, rotation: Rotation, clock: Clock) -> None:
        """Read the keys.

        Raises:
            KeyFileError: they cannot be used.
        """
        self._directory = directory
        self._rotation = rotation
        self._clock = clock
        self.keys: Keys = keyfiles.open_keys(directory)

    def published(self) -> KeySet:
        """Return the public keys that verify tokens now."""
        return self.keys.published()

    async def rotate(self) -> bool:
        """Publish the next key when it is time, and drop those whose last token is dead; tell whether any changed.

        What another broker or an operator has done to the folder counts as well.
        """
        before = self.keys.keyring
        self.keys = await asyncio.to_thread(self._rotated)
        return self.keys.keyring != before

    def kids(self) -> list[str]:
        """List the ids of the published keys."""
        return [life.kid for life in self.keys.keyring.lives]

    def _rotated(self) -> Keys:
        now, directory, rotation = self._clock(), self._directory, self._rotation
        keys = keyfiles.drop_gone(directory, keyfiles.open_keys(directory), now, rotation.longest)
        if keys.keyring.wants_next(now, rotation.every, rotation.lead):
            keys = keyfiles.publish_next(directory, keys, now + rotation.lead)
        return keys
