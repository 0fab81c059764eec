"""What a source of identity gives, whichever kind it is: our own SVID, and the bundles to verify others with."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from broker.identity.trust_bundles import TrustBundles


@dataclass(frozen=True, slots=True)
class SvidMaterial:
    """Our X.509-SVID and all trust bundles. `generation` differs whenever they do.

    From `not_after` on we have no identity: it has expired then, or is long past because it was taken from us.
    """

    generation: int
    cert_chain_pem: bytes
    private_key_pem: bytes = field(repr=False)
    trust_bundles: TrustBundles
    not_after: datetime


class SvidSource(Protocol):
    """Where SVIDs and bundles come from: files, or the Workload API.

    What cannot be used does not replace what could: `problem` says what is wrong, until it is mended.
    """

    @property
    def material(self) -> SvidMaterial:
        """Return what was taken last."""

    @property
    def problem(self) -> str | None:
        """Return why it cannot be taken anew."""

    def refresh(self) -> bool:
        """Take what has changed; report whether there is something new. May wait for a disk, never for a network."""
