"""Where a Workload API is: addresses as in the standard, and what is needed to call one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from broker.system import system_clock
from broker.trust import workload_api
from broker.trust.workload_api import WorkloadApi, WorkloadApiError
from tests.support.workload_api_server import REPOSITORY


def test_a_socket_that_is_missing_is_named_with_the_remedy() -> None:
    with pytest.raises(WorkloadApiError, match="see that the agent runs") as error:
        WorkloadApi("unix:///nowhere/agent.sock", system_clock, 0.3)
    assert "unix:///nowhere/agent.sock" in str(error.value)
    assert "No such file" in str(error.value)


@pytest.mark.parametrize(
    ("socket", "target"),
    [
        ("unix:///run/spire/agent.sock", "unix:/run/spire/agent.sock"),
        ("unix:/run/spire/agent.sock", "unix:/run/spire/agent.sock"),
        ("tcp://127.0.0.1:8000", "ipv4:127.0.0.1:8000"),
        ("tcp://[::1]:8000", "ipv6:[::1]:8000"),
    ],
)
def test_addresses_are_as_in_the_standard(socket: str, target: str) -> None:
    assert workload_api._target(socket) == target


@pytest.mark.parametrize(
    "socket",
    [
        "",
        "/run/spire/agent.sock",
        "unix:",
        "unix:///",
        "unix:agent.sock",
        "unix://host/agent.sock",
        "unix:////agent.sock",
        "unix:///agent.sock?x=1",
        "unix:///agent.sock#x",
        "unix:///agent%2esock",
        "unix:///agent.sock\n",
        "tcp://10.0.0.1:8000",
        "tcp://localhost:8000",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:8000/path",
        "tcp://127.0.0.1.evil.example:1",
        "tcp://[127.0.0.1]:8000",
        "http://127.0.0.1:8000",
    ],
)
def test_other_addresses_are_refused(socket: str) -> None:
    with pytest.raises(WorkloadApiError, match="is not the address of a Workload API"):
        WorkloadApi(socket, system_clock, 0.1)


def test_without_its_package_the_extra_is_named() -> None:
    script = """
import sys
from importlib.machinery import PathFinder

class Missing(PathFinder):
    @classmethod
    def find_spec(cls, name, *rest):
        return None if name.startswith("spiffe") else super().find_spec(name, *rest)

sys.meta_path[:] = [Missing if found is PathFinder else found for found in sys.meta_path]
from broker.system import system_clock
from broker.trust.workload_api import WorkloadApi, WorkloadApiError
try:
    WorkloadApi("unix:///agent.sock", system_clock)
except WorkloadApiError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "install `credbroker[spiffe]`" in run.stdout
