"""The addresses of brokers that serve the same: one is in use, and the next after it when that does not answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from broker.sdk.connect.patience import chance


class Ring:
    """Addresses, of which one is in use. Each caller begins at another, so that they spread over the brokers."""

    def __init__(self, addresses: Sequence[str], draw: Callable[[], float] = chance) -> None:
        """Begin anywhere."""
        self.addresses = tuple(dict.fromkeys(addresses))
        self._at = int(draw() * len(self.addresses))

    @property
    def address(self) -> str:
        """The one in use."""
        return self.addresses[self._at]

    def leave(self, address: str) -> bool:
        """Use the next, unless somebody has left `address` before us. Report whether another is in use."""
        if self.address == address:
            self._at = (self._at + 1) % len(self.addresses)
        return self.address != address
