"""What the processes of a run are told: where brokers are, who they are, and what they may spend."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """`events` is the folder of the records, `svids` that of the identities.

    `brokers` are addresses for callers with certificates, `jwt_brokers` those of the same brokers for callers with
    tokens. `identity_tokens` are good for one time each.
    """

    seed: int
    events: str
    svids: str
    issuer: str
    brokers: tuple[str, ...]
    jwt_brokers: tuple[str, ...]
    identity_tokens: tuple[str, ...]

    @classmethod
    def read(cls, file: Path) -> Setting:
        """Read one that was written."""
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in json.loads(file.read_text()).items()
        }
        return cls(**fields)

    def write(self, file: Path) -> None:
        """Write it, for other processes."""
        file.write_text(json.dumps(asdict(self)))
