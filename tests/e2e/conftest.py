"""What tests of whole brokers share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.workload_api_server import WorkloadApiServer, at_a_socket


@pytest.fixture
def agent() -> Iterator[WorkloadApiServer]:
    """A Workload API that can be started."""
    with at_a_socket() as server:
        yield server
