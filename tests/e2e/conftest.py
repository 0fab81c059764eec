"""What tests of whole brokers share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.facade import Facade, opened
from tests.support.workload_api_server import WorkloadApiServer, at_a_socket


@pytest.fixture
def agent() -> Iterator[WorkloadApiServer]:
    """A Workload API that can be started."""
    with at_a_socket() as server:
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the broker behind `facade`."""
    return tmp_path_factory.mktemp("broker")


@pytest.fixture(scope="module")
def facade(folder: Path) -> Iterator[Facade]:
    """A broker with all its doors, for the tests of one file."""
    with opened(folder) as found:
        yield found
