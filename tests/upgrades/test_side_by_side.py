"""Brokers of the version before and of this one, side by side on one PostgreSQL, over a migration.

The version before is taken from the repository's history, and runs as it was, with what is installed here.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker.store import migrate
from broker.store.verification import verify
from tests.faults.life import ROOT
from tests.faults.pair import Clients, Pair, paired

pytestmark = [pytest.mark.postgres, pytest.mark.long]
BEFORE, ITS_SCHEMA = "3ceb573", "0005"
_LIVES = 20  # between two steps


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of the version before."""
    folder = tmp_path_factory.mktemp("before")
    command = ["git", "archive", BEFORE, "broker", "migrations", "tests"]
    archive = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    return folder


@pytest.fixture
def pair(tmp_path: Path, new_postgresql_url: Callable[[], str]) -> Iterator[Pair]:
    with paired(tmp_path, new_postgresql_url()) as found:
        yield found


async def test_no_call_fails_while_one_broker_after_the_other_is_upgraded(pair: Pair, before: Path) -> None:
    pair.code = before
    await pair.live(0)
    await pair.live(1)
    assert migrate.current(pair.url) == ITS_SCHEMA
    clients = Clients(pair.either, 20)
    clients.start()
    await clients.come_to(_LIVES)
    migrate.upgrade(pair.url)
    await clients.come_to(_LIVES)
    pair.code = ROOT
    for number in (0, 1):
        await pair.renew(number)
        await clients.come_to(_LIVES)
    await clients.finish()
    leases = pair.leases()
    assert leases == dict.fromkeys(clients.lives, 1)
    assert migrate.current(pair.url) == migrate.newest()
    assert verify(pair.url).ok
