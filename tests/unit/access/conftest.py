"""The way in of a broker that trusts nobody, so that each test says whom."""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker.access.authentication import Authentication
from broker.access.lanes import Strangers
from broker.access.refusals import Refusals
from broker.credential.replays import Replays
from broker.identity.directory import Directory
from broker.identity.jwt import JwtAuthenticator
from broker.identity.trust_bundles import TrustBundles
from broker.identity.x509 import Authenticator
from broker.trust.issuer_keys import TrustedIssuers
from broker.trust.source import SvidMaterial
from tests.support.world import World, opened

NOBODY = TrustBundles(1, {})


@dataclass(frozen=True)
class Source:
    """Our own identity, for ever."""

    material: SvidMaterial
    problem: str | None = None

    def refresh(self) -> bool:
        return False


@pytest.fixture
async def world(tmp_path: Path, sqlite_with_schema: Path) -> AsyncIterator[World]:
    async with opened(f"sqlite:///{shutil.copy(sqlite_with_schema, tmp_path)}") as world:
        yield world


@pytest.fixture
def authentication(world: World) -> Authentication:
    directory, issuers = Directory((), frozenset()), TrustedIssuers({}, time.monotonic)
    return Authentication(
        desk=world.desk,
        source=Source(SvidMaterial(1, b"", b"", NOBODY, datetime.max.replace(tzinfo=UTC))),
        certificates=Authenticator(lambda: NOBODY, directory),
        tokens=JwtAuthenticator(issuers.issuers, issuers.current, lambda: NOBODY, "broker", directory),
        issuers=issuers,
        replays=Replays(),
        strangers=Strangers(),
    )


@pytest.fixture
def refusals(world: World) -> Refusals:
    return Refusals(world.desk)
