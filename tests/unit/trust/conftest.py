"""A Workload API, in a process of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.workload_api import HOME, Room, jwks, push
from tests.support.workload_api_server import WorkloadApiServer, jwt_response


@pytest.fixture(scope="module")
def agent() -> Iterator[WorkloadApiServer]:
    with tempfile.TemporaryDirectory() as folder:  # a socket's path is short
        found = WorkloadApiServer(Path(folder) / "agent.sock")
        yield found
        found.kill()


@pytest.fixture
def room(agent: WorkloadApiServer) -> Iterator[Room]:
    found = Room(agent)
    if agent.running:
        agent.tell(x509=push(found.first), jwt=jwt_response({HOME: jwks("k1")}))
    else:
        found.restart()
    yield found
    for api in found.opened:
        api.close()
