"""A Workload API, in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.workload_api import HOME, Room, jwks, push
from tests.support.workload_api_server import WorkloadApiServer, at_a_socket, jwt_response


@pytest.fixture(scope="module")
def agent() -> Iterator[WorkloadApiServer]:
    with at_a_socket() as server:
        yield server


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
